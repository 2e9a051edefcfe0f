"""MLflow: its own SQLite store beside the run folder, or whatever MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blankcheck.errors import ArgumentError
from blankcheck.runs.folder import RunFolder
from blankcheck.trackers.base import PROJECT, Notes, flat
from blankcheck.trackers.pictures import Picture
from blankcheck.trackers.rows import Row, name_of

NAME = "mlflow"
STORE, ARTIFACTS = "mlflow.db", "mlartifacts"
VIEW = "mlflow ui --backend-store-uri"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
MOST_NUMBERS, MOST_PARAMETERS, MOST_LETTERS = 1000, 100, 5000
"""Numbers and parameters in one call, and letters of a parameter's value, a little below what
MLflow allows."""


def connect(run: RunFolder, resume: bool) -> MLflow:
    """A new run in the store, or the one that goes on.

    Anything may be raised where the store cannot be reached.
    """
    import mlflow

    notes, path = Notes(run, NAME, resume), run.path.resolve()
    with _quiet(), _impatient():
        if mlflow.is_tracking_uri_set():
            uri, artifacts = mlflow.get_tracking_uri(), None
        else:
            uri, artifacts = _beside(path.parent), (path.parent / ARTIFACTS).as_uri()
        client = mlflow.MlflowClient(uri)
        known = _known(client, notes.run_id)
        if known is None:
            known = client.create_run(_experiment(client, artifacts), run_name=path.name)
    # an address of the user's own may hold a password
    return MLflow(
        client,
        known,
        notes,
        "where MLFLOW_TRACKING_URI says" if artifacts is None else f"{VIEW} {uri}",
    )


def _beside(folder: Path) -> str:
    store = str(folder / STORE)
    if "?" in store or "%" in store:  # in the address of a store, these begin something else
        raise ArgumentError(
            f"MLflow cannot keep a store in {folder}; name one in MLFLOW_TRACKING_URI"
        )
    return f"sqlite:///{store}"


def _known(client: Any, run_id: str | None) -> Any:
    """The run that goes on, running again; None where the store has none of this id."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        known = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    client.update_run(run_id, status="RUNNING")
    return known


def _experiment(client: Any, artifacts: str | None) -> str:
    """The experiment that MLflow's own variables name, else our own, made where there is none."""
    from mlflow.exceptions import MlflowException

    if identity := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return identity
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:  # another run made it at the same time, or it cannot be made
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


class MLflow:
    """One run of a store. Pictures are artifacts: `images/NAME/STEP.png`."""

    def __init__(self, client: Any, run: Any, notes: Notes, where: str) -> None:
        self._client, self._id, self._notes = client, run.info.run_id, notes
        # the store tells the last step of every metric; pictures are written again under their old
        # names
        self.last: dict[str, int] = {
            metric.key: metric.step for metric in run.data.to_proto().metrics
        }
        self.where = where

    def configure(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Parameters, and the artifacts `config.json` and `environment.json`, where long values are
        whole."""
        from mlflow.entities import Param

        self._notes.save(run=self._id)
        values = {**flat(config), **flat(environment, "environment")}
        parameters = [Param(name_of(k.split("/")), _short(str(v))) for k, v in values.items()]
        for some in _chunks(parameters, MOST_PARAMETERS):
            self._client.log_batch(self._id, params=some)
        self._client.log_dict(self._id, dict(config), "config.json")
        self._client.log_dict(self._id, dict(environment), "environment.json")

    def numbers(self, rows: Sequence[Row]) -> None:
        """Rows share calls: a call takes about a thousand numbers."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [
            Metric(name, number, now, row.step)
            for row in rows
            for name, number in row.values.items()
        ]
        for some in _chunks(metrics, MOST_NUMBERS):
            self._client.log_batch(self._id, metrics=some)

    def pictures(self, pictures: Sequence[Picture]) -> None:
        """PNG files among the artifacts."""
        for picture in pictures:
            self._client.log_image(
                self._id,
                picture.pixels,
                artifact_file=f"images/{picture.name}/{picture.step:04}.png",
            )

    def verdict(self, word: str) -> None:
        """A tag."""
        self._client.set_tag(self._id, "verdict", word)

    def close(self, finished: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


def _chunks(values: list[Any], most: int) -> Iterator[list[Any]]:
    return (values[at : at + most] for at in range(0, len(values), most))


def _short(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, MLflow's log says nothing below a warning: making a database is no news."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _impatient() -> Iterator[None]:
    """Inside, a server that does not answer is asked twice, not for minutes, unless the user said
    how often."""
    if RETRIES in os.environ:
        yield
        return
    os.environ[RETRIES] = "1"
    try:
        yield
    finally:
        del os.environ[RETRIES]
