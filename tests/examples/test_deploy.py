"""The Compose file, the Dockerfile and the manifests of examples/deploy agree with their schemas and with the CLI."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import jsonschema
import kubernetes_validate
import psycopg
import pytest
import yaml
from cano import Kernel, Workflow, wait_for
from cano_cli.loading import load_flow
from cano_cli.main import make_app
from cano_cli.worker_health import HealthServer
from compose_spec import PyCompose

from tests.servers.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
VERSIONS = "1.29", "1.37"
"""The oldest and the newest Kubernetes whose schemas the manifests must match."""
IMAGE = "cano-shop:1"

TEXT = {"type": "string"}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}


def closed(*required: str, **properties: Any) -> dict[str, Any]:
    """Return the schema of an object that has no other properties."""
    return {
        "type": "object", "additionalProperties": False, "required": list(required), "properties": properties,
    }  # fmt: skip


KEDA = {
    "TriggerAuthentication": closed(
        "secretTargetRef",
        secretTargetRef={
            "type": "array",
            "items": closed("parameter", "name", "key", parameter=NAME, name=NAME, key=NAME),
        },
    ),
    "ScaledObject": closed(
        "scaleTargetRef",
        "triggers",
        scaleTargetRef=closed("name", name=NAME),
        minReplicaCount={"type": "integer", "minimum": 0},
        maxReplicaCount={"type": "integer", "minimum": 1},
        pollingInterval={"type": "integer", "minimum": 1},
        cooldownPeriod={"type": "integer", "minimum": 0},
        triggers={
            "type": "array",
            "minItems": 1,
            "items": closed(
                "type",
                "metadata",
                type={"const": "postgresql"},
                authenticationRef=closed("name", name=NAME),
                metadata=closed("query", "targetQueryValue", query=TEXT, targetQueryValue=TEXT),
            ),
        },
    ),
}
"""The `spec` of KEDA 2's resources, as far as the manifests use it; written after KEDA's documentation."""


def resources() -> Iterator[dict[str, Any]]:
    """Yield all resources of all manifests."""
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def resource(kind: str, name: str) -> dict[str, Any]:
    """Return the resource with that kind and name."""
    (found,) = [each for each in resources() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def compose() -> dict[str, Any]:
    """Return the Compose file."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return found


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with its arguments."""
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line and not line.startswith("#")]


def containers() -> list[dict[str, Any]]:
    """Return the containers of the manifests that have Cano's image."""
    pods = [each["spec"]["template"]["spec"] for each in resources() if "template" in each.get("spec", ())]
    return [container for pod in pods for container in pod["containers"] if container["image"] == IMAGE]


def commands() -> list[list[str]]:
    """Return the arguments of `cano` in the Dockerfile, the manifests, the Compose file and its comments."""
    (default,) = [yaml.safe_load(arguments) for name, arguments in instructions() if name == "CMD"]
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    said = [shlex.split(each) for each in re.findall(r"run --rm worker (.*)", text)]
    return [default, compose()["services"]["worker"]["command"], *said, *(each["args"] for each in containers())]


def parsed(arguments: list[str], environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> click.Context:
    """Parse the arguments of `cano` with its own parser, in an environment."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    app = make_app()
    context = app.make_context("cano", list(arguments))
    name, command, rest = app.resolve_command(context, list(arguments))
    assert name is not None
    assert command is not None
    return command.make_context(name, rest, parent=context)


# the schemas


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_match_the_schemas_of_kubernetes(version: str) -> None:
    """Each resource of Kubernetes itself has the right fields, and no others."""
    for each in resources():
        if not each["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(each, version, strict=True)


def test_a_wrong_manifest_is_found() -> None:
    """A misspelt field and a wrong type are errors."""
    for field, value in (("replica", 1), ("replicas", "two")):
        wrong = resource("Deployment", "shop-worker")
        wrong["spec"][field] = value
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_scalers_match_their_schema() -> None:
    """The resources of KEDA have the fields that it documents."""
    found = [each for each in resources() if each["apiVersion"] == "keda.sh/v1alpha1"]
    assert {each["kind"] for each in found} == KEDA.keys()
    for each in found:
        jsonschema.validate(each["spec"], KEDA[each["kind"]])


def test_the_compose_file_matches_its_specification() -> None:
    """It is parsed by an implementation of the Compose specification, which refuses unknown fields."""
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert sorted(PyCompose.from_yaml(text).service_names()) == ["postgres", "worker"]
    with pytest.raises(Exception, match="comand"):
        PyCompose.from_yaml(text.replace("command:", "comand:"))


# the command line


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Workflow[Any]]:
    """The example's workflow. Its module is forgotten afterwards: other tests have a `shop` of their own."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield load_flow(f"{DEPLOY / 'shop.py'}:flow")
    del sys.modules["shop"]


@pytest.mark.usefixtures("shop")
def test_commands_are_those_of_the_cli(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is parsed by the CLI itself, with the environment that the manifest sets; the workflow exists."""
    environment = compose()["services"]["worker"]["environment"]
    names = set()
    for arguments in commands():
        context = parsed(arguments, environment, monkeypatch)
        names.add(context.info_name)
        assert context.params["store"] == environment["CANO_STORE"]
        targets = context.params.get("targets") or [context.params["target"]]
        monkeypatch.chdir(DEPLOY)
        assert [load_flow(target).name for target in targets] == ["shop"]
    assert names == {"worker", "submit", "compat"}
    with pytest.raises(click.NoSuchOption):
        parsed(["worker", "shop.py:flow", "--concurency", "20"], environment, monkeypatch)


async def test_probes_ask_what_workers_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports and paths are those at which a worker serves; a worker that drains is not ready, and lives."""

    async def metrics() -> str:
        return ""

    (worker,) = [each for each in containers() if each["args"][0] == "worker"]
    host, port = parsed(worker["args"], {"CANO_STORE": "sqlite:///runs.db"}, monkeypatch).params["health"]
    assert (host, worker["ports"]) == ("0.0.0.0", [{"name": "health", "containerPort": port}])
    assert compose()["services"]["worker"]["expose"] == [str(port)]
    status = {}
    for problem in ("", "draining"):
        server = HealthServer(lambda problem=problem: problem, metrics)  # type: ignore[misc]  # it is bound at once
        for probe in ("readinessProbe", "livenessProbe"):
            asked = worker[probe]["httpGet"]
            assert asked["port"] == "health"
            status[probe, problem] = (await server._page("GET", asked["path"]))[0]
    assert list(status.values()) == [200, 200, 503, 200]


def test_a_worker_has_time_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The orchestrator waits longer than the worker's own grace before it kills the process."""
    (deployment,) = [each for each in resources() if each["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    service = compose()["services"]["worker"]
    for arguments, seconds in (
        (pod["containers"][0]["args"], pod["terminationGracePeriodSeconds"]),
        (service["command"], float(service["stop_grace_period"].removesuffix("s"))),
    ):
        grace = parsed(arguments, {"CANO_STORE": "sqlite:///runs.db"}, monkeypatch).params["grace"]
        assert grace + 10 <= seconds


def test_the_page_has_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/deploying.md names the times of the manifests, and the defaults of the CLI."""
    page = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")
    defaults = parsed(["worker", "shop.py:flow"], {"CANO_STORE": "sqlite:///runs.db"}, monkeypatch).params
    (deployment,) = [each for each in resources() if each["kind"] == "Deployment"]
    seconds = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    for text in (
        f"`--grace`, {defaults['grace']:g} s", f"`--lease`, {defaults['lease']:g} s",
        f"`terminationGracePeriodSeconds: {seconds}`", f"`stop_grace_period: {seconds}s`",
    ):  # fmt: skip
        assert text in page
    assert "(docs/deploying.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_names_and_labels_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Selectors select, keys of secrets exist, and the scaler's target is what one worker executes at once."""
    deployment = resource("Deployment", "shop-worker")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert resource("PodDisruptionBudget", "shop-worker")["spec"]["selector"]["matchLabels"] == labels
    stateful = resource("StatefulSet", "postgres")["spec"]
    assert resource("Service", stateful["serviceName"])["spec"]["selector"] == stateful["selector"]["matchLabels"]
    keys = resource("Secret", "shop-store")["stringData"].keys()
    asked = re.findall(r"name: shop-store, key: (\w+)", "".join(path.read_text(encoding="utf-8") for path in MANIFESTS))
    assert set(asked) == keys
    scaler = resource("ScaledObject", "shop-worker")["spec"]
    assert resource("Deployment", scaler["scaleTargetRef"]["name"]) == deployment
    assert resource("TriggerAuthentication", scaler["triggers"][0]["authenticationRef"]["name"])
    arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    concurrency = parsed(arguments, {"CANO_STORE": "sqlite:///runs.db"}, monkeypatch).params["concurrency"]
    assert scaler["triggers"][0]["metadata"]["targetQueryValue"] == str(concurrency)


def test_the_image_installs_what_there_is() -> None:
    """What the Dockerfile copies and installs is in the repository, and has what the store's URL needs."""
    copied = [arguments.split()[0] for name, arguments in instructions() if name == "COPY"]
    (install,) = [arguments for name, arguments in instructions() if name == "RUN"]
    installed = re.findall(r"\./(\S+)", install)
    assert all((ROOT / path).exists() for path in copied)
    assert all((ROOT / path / "pyproject.toml").is_file() and path.split("/")[0] in copied for path in installed)
    for path in installed:
        project = tomllib.loads((ROOT / path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        own = [re.split(r"\W*[~<>=\[]", each)[0] for each in project["dependencies"] if each.startswith("cano")]
        assert {each.replace("cano-", "plugins/") if each != "cano" else "kernel" for each in own} <= set(installed)
    assert {"plugins/cli", "plugins/postgres"} <= set(installed)
    assert ("ENTRYPOINT", '["cano"]') in instructions()


# the scaler's query


@pytest.mark.slow
async def test_the_query_counts_runs_that_need_a_worker(postgres: PostgresServer, shop: Workflow[Any]) -> None:
    """Queued, executing and woken runs count; those that wait, are delayed or have ended do not."""
    query = resource("ScaledObject", "shop-worker")["spec"]["triggers"][0]["metadata"]["query"]
    url = postgres.new_url()
    began, gate = asyncio.Event(), asyncio.Event()
    waits = Workflow("ASK", name="waits").add_exit_state("END")

    async def ask(store: Any) -> Any:
        return wait_for("go", then="HOLD")

    async def hold(store: Any) -> str:
        began.set()
        await gate.wait()
        return "END"

    waits.register("ASK", ask).register("HOLD", hold)

    async def counted() -> int:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            row = await (await connection.execute(query)).fetchone()
            assert row is not None
            return int(row[0])

    async with Kernel(store=url, grace=0) as kernel:
        await kernel.run(shop, run_id="ended")
        await kernel.submit(shop, run_id="delayed", delay=3600)
        assert await counted() == 0
        await kernel.submit_many(shop, [{}] * 3)
        assert await counted() == 3
        await kernel.start(waits, run_id="waits")
        await anext(event async for event in (await kernel.attach("waits")).events() if event.kind == "wait")
        assert await counted() == 3
        async with Kernel(store=url) as other:
            assert await other.signal("waits", "go")
        await began.wait()
        assert await counted() == 4
        gate.set()
        await (await kernel.attach("waits")).result()
        assert await counted() == 3
        async with await psycopg.AsyncConnection.connect(url) as connection:
            await connection.execute("UPDATE cano.runs SET due = 1 WHERE run_id = 'delayed'")
        assert await counted() == 4
