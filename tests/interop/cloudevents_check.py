"""Reads events with both interfaces of the official `cloudevents` package.

    cloudevents_check.py FILE

FILE is a JSON array of events in structured mode. Each must be read, and be
the same event when it is written again. The answer is one line of JSON: how
many there were, and of which types.
"""

import json
import sys

from cloudevents.core.formats.json import JSONFormat
from cloudevents.v1.http import from_json


def main(path):
    with open(path, encoding="utf-8") as file:
        events = json.load(file)
    types = set()
    for event in events:
        text = json.dumps(event)
        try:
            read = JSONFormat().read(None, text)
            again = json.loads(JSONFormat().write(read))
            old = from_json(text)
        except Exception as error:
            sys.exit(f"the library can't read {text}: {error!r}")
        # It writes the same time in another form.
        for attribute in event.keys() - {"time"}:
            if again.get(attribute) != event[attribute]:
                sys.exit(f"{attribute} of {text} became {again.get(attribute)!r}")
        if (old["id"], old["source"], old.data) != (event["id"], event["source"], event["data"]):
            sys.exit(f"the older interface reads {text} as {old!r}")
        types.add(event["type"])
    print(json.dumps({"events": len(events), "types": sorted(types)}))


if __name__ == "__main__":
    main(sys.argv[1])
