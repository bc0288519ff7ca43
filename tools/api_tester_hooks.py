"""What tools/api-tester tells Schemathesis of sendoff: which refusals no schema could have foreseen."""

import re

import schemathesis

# Valid by its schema and refused all the same, with the reason for each. By kind and field (or
# parameter); a refusal for any other reason is a failure.
BEYOND_A_SCHEMA = [
    # Addresses of hosts and names in headers follow grammars of their own; and what may be
    # reached, executed, set and read is the daemon's configuration, which allows this caller nothing.
    ("invalid_job", r"start\.http\.(url|headers.*|body_base64)"),
    ("invalid_job", r"start\.process\.(program|args|env.*|cwd|stdout|stderr)"),
    # Bounds of a duration, and bounds that depend on another field or on the time of the day.
    ("invalid_job", r"start_timeout|delay|expires_in|expires_at|retry\.min_backoff|start\.simulated\.delay"),
    ("invalid_body", r"delay"),
    ("invalid_queue", r"rate\.per"),
    ("invalid_parameter", r"wait"),
    # The header and the field must agree.
    ("invalid_job", r"idempotency_key"),
    # A cursor is what an earlier answer gave, for the same request.
    ("invalid_cursor", r".*"),
]


def explained(problem):
    kind = problem.get("type", "").removeprefix("/problems/")
    # A name in a path that looks like words is in the detail alone.
    field = problem.get("field") or problem.get("parameter") or problem["detail"].split(": ")[0]
    return any(kind == known and re.fullmatch(fields, field, re.DOTALL) for known, fields in BEYOND_A_SCHEMA)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if "positive_data_acceptance" in failure.checks and response.status_code == 400:
        return not explained(response.json())
    if "negative_data_rejection" in failure.checks and case.operation.path.endswith(":purge"):
        # Without a body it is taken for a violation of the body's schema; but the body may be left out.
        return bool(response.request.body)
    return True


@schemathesis.hook
def before_call(context, case, kwargs):
    """Keeps requests within what can be judged by their status, and from lasting for minutes."""
    negative = case.meta is not None and case.meta.generation.mode.is_negative
    if case.operation.path == "/v1/jobs:batch" and negative and case.query.get("atomic") == "false":
        # Itemised, each job is refused in a line of its own, under 200.
        case.query["atomic"] = "true"
    if not negative and "wait" in (case.query or {}):
        case.query["wait"] = "10ms"
    # To JSON Schema 1.0 is an integer; to the daemon it is none, as to most readers of JSON.
    if not negative:
        case.body = whole(case.body)


def whole(value):
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole(member) for name, member in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value
