"""Holds the dashboard, the monitors and the payloads of a dry run against Datadog's own models of them.

    pip install datadog-api-client==2.62.0
    runhound replay fixtures --jobs --steps --cache-dir FOLDER
    python3 deploy/datadog/validate.py FOLDER/payloads-dry-run.jsonl

One line is printed for each document, and one for each fault; the exit code is 1 if there is a fault.
"""

import json
import sys
from copy import deepcopy
from pathlib import Path

from datadog_api_client.configuration import Configuration
from datadog_api_client.exceptions import OpenApiException
from datadog_api_client.model_utils import (
    ModelComposed,
    ModelNormal,
    OpenApiModel,
    UnparsedObject,
    model_to_dict,
    validate_and_convert_types,
)
from datadog_api_client.v1.model.dashboard import Dashboard
from datadog_api_client.v1.model.monitor import Monitor
from datadog_api_client.v2.model.metric_payload import MetricPayload

HERE = Path(__file__).parent


def unknown(value, place):
    """What a model has kept without knowing it: fields, words, and kinds of objects."""
    if isinstance(value, UnparsedObject):
        yield f"{place}: of no known kind"
    elif isinstance(value, ModelComposed):
        for instance in value._composed_instances:
            yield from unknown(instance, place)
    elif isinstance(value, ModelNormal):
        for name, field in value._data_store.items():
            if name not in value.openapi_types:
                yield f"{place}/{name}: no field of a {type(value).__name__}"
            yield from unknown(field, f"{place}/{name}")
    elif isinstance(value, OpenApiModel):
        if value._unparsed:
            yield f"{place}: no {type(value).__name__}: {value}"
    elif isinstance(value, (list, dict)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from unknown(item, f"{place}/{key}")


def faults(model, document):
    """All that is wrong with a document; nothing if the model knows all of it and makes nothing else of it."""
    try:
        read = validate_and_convert_types(
            deepcopy(document), (model,), [model.__name__], True, True, configuration=Configuration()
        )
    except (OpenApiException, TypeError) as error:
        return [str(error)]
    found = list(unknown(read, ""))
    if not found and model_to_dict(read) != document:
        found.append("reads as something else")
    return found


def planted(document, pointer, value):
    """The document with another value at a place that is there, or with a field more."""
    document = deepcopy(document)
    *path, last = pointer
    inner = document
    for step in path:
        inner = inner[step]
    inner[last] = value
    return document


def check_itself(dashboard, payload):
    """A field or a word that is misspelt, however deep, is a fault; so is what is missing or of another type."""
    widget = ("widgets", 0, "definition", "widgets", 0)
    series, point = ("series", 0), ("series", 0, "points", 0)
    for model, document in [
        (Dashboard, planted(dashboard, (*widget, "layout", "titel"), 1)),
        (Dashboard, planted(dashboard, (*widget, "definition", "requests", 0, "response_format"), "scalars")),
        (MetricPayload, planted(payload, ("run",), 1)),
        (MetricPayload, planted(payload, (*series, "run_id"), 1)),
        (MetricPayload, planted(payload, (*series, "type"), 7)),
        (MetricPayload, planted(payload, (*series, "metadata"), {"origin": {"maker": 1}})),
        (MetricPayload, planted(payload, (*point, "count"), 1)),
        (MetricPayload, planted(payload, (*point, "value"), "1")),
        (MetricPayload, {"series": [{"metric": "without.points"}]}),
    ]:
        assert faults(model, document), f"a planted fault in a {model.__name__} goes unnoticed"


def main(payloads):
    dashboard = json.loads((HERE / "dashboard.json").read_text())
    monitors = [*sorted((HERE / "monitors").glob("*.json")), HERE / "agent" / "rejected-runs.json"]
    lines = [json.loads(line) for line in Path(payloads).read_text().splitlines()]
    assert len(monitors) >= 5, monitors
    assert lines and all(line["series"] for line in lines), "nothing was written"
    names = [series["metric"] for line in lines for series in line["series"]]
    for kind in ("workflow_run", "job", "step"):
        assert any(f".{kind}." in name for name in names), f"no payload is of a {kind}"
    check_itself(dashboard, lines[0])

    documents = [("dashboard.json", Dashboard, dashboard)]
    documents += [(path.name, Monitor, json.loads(path.read_text())) for path in monitors]
    documents += [(f"payload {number}", MetricPayload, line) for number, line in enumerate(lines, 1)]
    failed = False
    for name, model, document in documents:
        found = faults(model, document)
        print(f"{name}: {'; '.join(found) or 'ok'}")
        failed |= bool(found)
    return failed


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
