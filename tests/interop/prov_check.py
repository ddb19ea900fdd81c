"""Reads a PROV-JSON document with the `prov` package and says what is in it.

    prov_check.py FILE

The document must be read, must come out of the package again as the same
document, and must keep the rules of PROV that can be checked without time:
what an edge names is there, and nothing is two kinds of things. The answer is
one line of JSON: counts, derivations and labels.
"""

import json
import sys

from prov.model import (
    ProvActivity,
    ProvAgent,
    ProvAssociation,
    ProvDerivation,
    ProvDocument,
    ProvEntity,
    ProvGeneration,
    ProvSpecialization,
    ProvUsage,
)


def fail(message):
    sys.exit(f"not a sound PROV document: {message}")


def ends(relation):
    """The elements that a relation names, without those it leaves open."""
    return [value for _, value in relation.formal_attributes if hasattr(value, "namespace")]


def main(path):
    with open(path, encoding="utf-8") as file:
        document = ProvDocument.deserialize(file, format="json")
    again = ProvDocument.deserialize(content=document.serialize(format="json"), format="json")
    if document != again:
        fail("it is another one after it was written and read again")
    if document.unified() != document.unified().unified():
        fail("its statements about one thing do not agree")
    kinds = {}
    for kind in (ProvEntity, ProvActivity, ProvAgent):
        for element in document.get_records(kind):
            if element.identifier in kinds:
                fail(f"{element.identifier} is told of twice")
            kinds[element.identifier] = kind
    for activity in document.get_records(ProvActivity):
        start, end = activity.get_startTime(), activity.get_endTime()
        if start is not None and end is not None and start > end:
            fail(f"{activity.identifier} ends before it begins")
    expected = {
        ProvUsage: [ProvActivity, ProvEntity],
        ProvGeneration: [ProvEntity, ProvActivity],
        ProvDerivation: [ProvEntity, ProvEntity, ProvActivity],
        ProvAssociation: [ProvActivity, ProvAgent],
        ProvSpecialization: [ProvEntity, ProvEntity],
    }
    for kind, wanted in expected.items():
        for relation in document.get_records(kind):
            found = [kinds.get(end) for end in ends(relation)]
            if found != wanted[: len(found)] or len(found) < 2:
                fail(f"{relation} names {found}, not {wanted}")
    activities = {activity.identifier: activity for activity in document.get_records(ProvActivity)}
    makers = {}
    for generation in document.get_records(ProvGeneration):
        made, by = ends(generation)[:2]
        if makers.setdefault(made, by) != by:
            fail(f"{made} came into being twice")
    for usage in document.get_records(ProvUsage):
        by, used = ends(usage)[:2]
        if used in makers:
            begun, ended = activities[makers[used]].get_startTime(), activities[by].get_endTime()
            if begun is not None and ended is not None and begun > ended:
                fail(f"{by} used {used} before it came into being")
    labels = {str(entity.identifier): entity.label for entity in document.get_records(ProvEntity)}
    label = lambda identifier: labels[str(identifier)]
    derived = [
        [label(ends(relation)[0]), label(ends(relation)[1])] for relation in document.get_records(ProvDerivation)
    ]
    # Every element and relation in PROV-N, the notation for people: it must be writable.
    notation = document.get_provn()
    summary = {
        "entities": sorted(labels.values()),
        "activities": len(list(document.get_records(ProvActivity))),
        "agent_types": sorted({str(kind) for agent in document.get_records(ProvAgent) for kind in agent.get_asserted_types()}),
        "agents": sorted(agent.label for agent in document.get_records(ProvAgent)),
        "derived": sorted(derived),
        "notation_lines": notation.count("\n"),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main(sys.argv[1])
