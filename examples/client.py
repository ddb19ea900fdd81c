"""A client: submits a task, waits for its end and prints what was made.

    python3 examples/client.py "Write a haiku about queues"

Needs Python 3.9 and a server at DATS_URL (http://127.0.0.1:8000 by default). If the server
requires an API key, set DATS_API_KEY.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

URL = os.environ.get("DATS_URL", "http://127.0.0.1:8000") + "/api/v1"


def call(path, body=None, **headers):
    """Sends a request and returns the body of the answer.

    Retries while the server is unreachable or answers 503, so a POST needs an
    Idempotency-Key.
    """
    headers["X-API-Key"] = os.environ.get("DATS_API_KEY", "")
    if body is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(body).encode()
    request = urllib.request.Request(URL + path, body, headers)
    while True:
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code != 503:
                problem = json.load(error)
                sys.exit(f"{problem['title']}: {problem['detail']} ({problem['code']})")
        except OSError:
            pass
        time.sleep(1)


def main():
    description = sys.argv[1] if len(sys.argv) > 1 else "Write a haiku about queues"
    # The key makes it safe to repeat the submission: there is one task for one key.
    key = {"Idempotency-Key": str(uuid.uuid4())}
    task = json.loads(call("/tasks", {"description": description, "project_id": "examples"}, **key))
    print(f"submitted {task['task_id']}", flush=True)
    while True:
        # Answers when the task has ended, after 30 seconds at the latest.
        state = json.loads(call(f"/tasks/{task['task_id']}?wait=30"))
        if state["status"] in ("completed", "failed", "cancelled"):
            break
        print(f"{state['status']}/{state['phase']}: waits for {state['waiting_for']}", flush=True)
    print(state["status"])
    if state["status"] != "completed":
        sys.exit(f"the task did not complete: {state['error']}")
    for artifact in state["artifacts"]:
        identifier = artifact["id"] if isinstance(artifact, dict) else artifact
        print(call(f"/artifacts/{urllib.parse.quote(identifier, safe='')}/content").decode(), end="")


if __name__ == "__main__":
    main()
