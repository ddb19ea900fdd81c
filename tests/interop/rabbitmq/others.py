"""A worker and a QA service in Python, on pika: the other services as they are
written elsewhere, in a language and with a client that share nothing with the
orchestration service.

    others.py worker HOST PORT EXCHANGE QUEUE
    others.py qa HOST PORT EXCHANGE QUEUE

The worker answers each task with an output, in binary mode; QA validates each
output, in structured mode. Each says "ready" on stdout once it consumes.
"""

import json
import sys
import uuid
from datetime import datetime, timezone

import pika


def now():
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


def output(channel, exchange, message):
    """task.output.created for a task, its attributes in headers."""
    task = message["data"]
    artifact = f"art-{task['task_id']}-{task['attempt']}"
    data = {
        "task_id": task["task_id"],
        "attempt": task["attempt"],
        "artifact_id": artifact,
        "worker_id": "python-worker",
        "model_used": "model-7b",
        "confidence": 0.97,
        "output": {"content": "def fib(n): ...", "artifacts": [{"id": artifact, "type": "code", "path": "fib.py"}]},
    }
    attributes = {
        "specversion": "1.0",
        "type": "dats.task.output.created",
        "source": "/worker",
        "id": str(uuid.uuid4()),
        "time": now(),
    }
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        message_id=attributes["id"],
        correlation_id=task["task_id"],
        headers={f"cloudEvents:{name}": value for name, value in attributes.items()},
    )
    channel.basic_publish(exchange, "task.output.created", json.dumps(data), properties)


def verdict(channel, exchange, data):
    """task.validated for an output, as an envelope."""
    event = {
        "specversion": "1.0",
        "type": "dats.task.validated",
        "source": "/qa",
        "id": str(uuid.uuid4()),
        "time": now(),
        "datacontenttype": "application/json",
        "data": {"task_id": data["task_id"], "artifact_id": data["artifact_id"], "score": 0.9, "profile": "consensus"},
    }
    properties = pika.BasicProperties(
        content_type="application/cloudevents+json", delivery_mode=2, message_id=event["id"], type=event["type"]
    )
    channel.basic_publish(exchange, "task.validated", json.dumps(event), properties)


def main(role, host, port, exchange, queue):
    channel = pika.BlockingConnection(pika.ConnectionParameters(host, int(port))).channel()
    channel.confirm_delivery()
    channel.basic_qos(prefetch_count=8)
    if role == "qa":
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, exchange, "task.output.created")

    def take(channel, method, properties, body):
        message = json.loads(body)
        if role == "worker":
            assert properties.content_type == "application/cloudevents+json", properties
            assert properties.message_id == message["id"] and properties.type == "dats.task.ready", properties
            assert properties.correlation_id == message["data"]["task_id"], properties
            output(channel, exchange, message)
        else:
            verdict(channel, exchange, message)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, take)
    print("ready", flush=True)
    channel.start_consuming()


if __name__ == "__main__":
    main(*sys.argv[1:])
