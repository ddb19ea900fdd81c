"""A worker: leases tasks of one tier, works on them and reports the output.

    python3 examples/worker.py small

Needs Python 3.9 and a server at DATS_URL (http://127.0.0.1:8000 by default). If the server
requires an API key, set DATS_API_KEY. Replace `work` with what your worker does.
"""

import contextlib
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid

URL = os.environ.get("DATS_URL", "http://127.0.0.1:8000") + "/api/v1"
WORKER = f"example-{uuid.uuid4()}"
LEASE_SECONDS = 30


def work(task):
    """Returns the content of the artifact for a task."""
    return f"# {task['description']}\nprint('done')\n"


def post(path, body, content_type="application/json"):
    """Sends a request and returns the JSON of the answer.

    Retries while the server is unreachable or answers 503: a request that was not answered
    may be repeated, because leases expire and an event with the same id has its effect once.
    """
    headers = {"Content-Type": content_type, "X-API-Key": os.environ.get("DATS_API_KEY", "")}
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers)
    while True:
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
        except OSError:
            pass
        time.sleep(1)


def report(name, data):
    """Sends an event and returns its outcome: applied, duplicate, stale or parked."""
    event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": f"/workers/{WORKER}",
             "type": f"dats.{name}", "data": data}
    return post("/events", event, "application/cloudevents+json")["outcome"]


@contextlib.contextmanager
def renewed(lease_id):
    """Renews a lease in the background until the block ends."""
    ended = threading.Event()

    def renew():
        while not ended.wait(LEASE_SECONDS / 3):
            try:
                post(f"/leases/{lease_id}/renew", {"lease_seconds": LEASE_SECONDS})
            except urllib.error.HTTPError:
                return  # 409: the lease is lost, and another worker may have the task

    threading.Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def handle(lease):
    """Works on a leased task and reports its output or its failure."""
    task = lease["task"]
    origin = {"task_id": task["task_id"], "attempt": task["attempt"],
              "worker_id": WORKER, "lease_id": lease["lease_id"]}
    try:
        with renewed(lease["lease_id"]):
            content = work(task)
    except Exception as error:
        outcome = report("task.failed", {**origin, "error": str(error), "retryable": True})
        print(f"{task['task_id']} failed: {error} ({outcome})", flush=True)
        return
    artifact = f"artifact-{uuid.uuid4()}"
    outcome = report("task.output.created", {
        **origin,
        "artifact_id": artifact,
        "output": {"content": content,
                   "artifacts": [{"id": artifact, "type": "code", "path": "result.py"}]},
        "inputs_consumed": task["inputs"],
        "model_used": "example-model",
    })
    print(f"{task['task_id']} attempt {task['attempt']}: {artifact} ({outcome})", flush=True)


def main():
    tier = sys.argv[1] if len(sys.argv) > 1 else "small"
    while True:
        request = {"worker_id": WORKER, "lease_seconds": LEASE_SECONDS, "wait_seconds": 20}
        for lease in post(f"/queues/{tier}/lease", request)["leases"]:
            handle(lease)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
