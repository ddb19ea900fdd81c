"""A QA service: follows the outputs of workers and reports a verdict on each.

    python3 examples/qa.py

Needs Python 3.9 and a server at DATS_URL (http://127.0.0.1:8000 by default). If the server
requires an API key, set DATS_API_KEY. Replace `check` with your validation.
"""

import contextlib
import json
import os
import time
import urllib.error
import urllib.request

URL = os.environ.get("DATS_URL", "http://127.0.0.1:8000") + "/api/v1"


def check(content):
    """Returns a list of issues; an empty list passes the output."""
    return [] if content.strip() else ["the output is empty"]


def request(path, body=None, **headers):
    """Opens a request; the API key is added where one is set."""
    headers["X-API-Key"] = os.environ.get("DATS_API_KEY", "")
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(URL + path, data, headers), timeout=60)


def outputs():
    """Yields each `task.output.created` event, from the beginning of the event log.

    Resumes after the last event when the connection ends. The server sends a comment every
    15 seconds, so a read that takes longer than the timeout means that the server is away.
    """
    position = "0"
    while True:
        headers = {"Last-Event-ID": position, "Accept": "text/event-stream"}
        try:
            with request("/events?types=task.output.created", **headers) as stream:
                for line in stream:
                    field, _, value = line.decode().rstrip("\n").partition(": ")
                    if field == "id":
                        position = value
                    elif field == "data" and value.startswith('{"specversion"'):
                        yield json.loads(value)
        except OSError:
            time.sleep(1)


def judge(output):
    """Reports the verdict on an output and returns its name and outcome.

    The id of the event follows from the id of the output, so a verdict that is sent again
    has no second effect.
    """
    data = output["data"]
    issues = check(data.get("output", {}).get("content") or "")
    verdict = {"task_id": data["task_id"], "artifact_id": data["artifact_id"]}
    if issues:
        name, verdict = "task.rejected", {**verdict, "reason": issues[0], "issues": issues}
    else:
        name, verdict = "task.validated", {**verdict, "score": 0.9, "profile": "consensus"}
    event = {"specversion": "1.0", "id": f"verdict-{output['id']}", "source": "/qa/example",
             "type": f"dats.{name}", "data": verdict}
    while True:
        try:
            headers = {"Content-Type": "application/cloudevents+json"}
            with request("/events", event, **headers) as answer:
                return name, json.load(answer)["outcome"]
        except urllib.error.HTTPError as error:
            if error.code != 503:  # for example 404: the task has been removed
                return name, f"refused with {error.code}"
        except OSError:
            pass
        time.sleep(1)


def main():
    for output in outputs():
        name, outcome = judge(output)
        print(f"{output['data']['task_id']} {name} ({outcome})", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
