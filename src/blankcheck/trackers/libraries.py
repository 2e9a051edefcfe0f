"""TensorBoard, MLflow and Weights & Biases, through each library's own calls."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from blankcheck.errors import ArgumentError
from blankcheck.runs.folder import EVENTS, RunFolder
from blankcheck.trackers.series import Picture, leaves, name_of

Values = Mapping[str, Any]
OFF = ("disable_git", "disable_code", "x_disable_meta", "x_disable_stats", "x_disable_machine_info")
"""What Weights & Biases would keep of the repository and the machine, it does not."""


class Tracker:
    """One run in one tracker. Any method may raise whatever its library raises.

    Args:
        run: the folder that is mirrored.
        identity: of the run to go on with in the tracker; None begins one.
        sent: how many entries that run has got.
    """

    where: str
    """How to look at it."""

    def __init__(self, run: RunFolder, identity: str | None, sent: int) -> None:
        self.run, self.identity, self.sent = run, identity, sent

    def config(self, config: Values, environment: Values) -> None:
        """Send the settings of the run and its surroundings."""

    def scalars(self, axis: str, step: int, values: Values) -> None:
        """Send numbers by name; the step counts what the axis says."""

    def image(self, picture: Picture) -> None:
        """Send a picture."""

    def verdict(self, word: str) -> None:
        """Send the verdict of the audit."""

    def close(self, finished: bool) -> None:
        """End the run, which is finished, or was stopped or failed."""


class _TensorBoard(Tracker):
    """Event files in the run folder; a run that goes on gets a further one."""

    def __init__(self, run: RunFolder, identity: str | None, sent: int) -> None:
        super().__init__(run, identity, sent)
        self.where = f"tensorboard --logdir {run / EVENTS}"

    @cached_property
    def _writer(self) -> Any:
        # made with the first thing sent, after an earlier run in the folder was removed
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.run.folder(EVENTS)))

    def config(self, config: Values, environment: Values) -> None:
        for name, values in (("config", config), ("environment", environment)):
            lines = [f"{'/'.join(path)}: {value}" for path, value in leaves(values).items()]
            self._text(name, "\n".join(lines), 0)

    def _text(self, name: str, words: str, step: int) -> None:
        # a code block of Markdown, which shows every letter as it is
        block = "\n".join(f"    {line}" for line in words.splitlines())
        self._writer.add_text(name, block, step)

    def scalars(self, axis: str, step: int, values: Values) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def image(self, picture: Picture) -> None:
        self._writer.add_image(picture.name, picture.pixels, picture.step, dataformats="HWC")
        self._text(f"{picture.name}/words", picture.words, picture.step)

    def verdict(self, word: str) -> None:
        self._text("verdict", word, 0)

    def close(self, finished: bool) -> None:
        if "_writer" in vars(self):  # something was sent
            self._writer.close()


class _MLflow(Tracker):
    """A run of the SQLite store beside the run folder, or of what MLFLOW_TRACKING_URI names."""

    def __init__(self, run: RunFolder, identity: str | None, sent: int) -> None:
        import mlflow

        # a server that does not answer is asked for seconds, not minutes, unless the user said so
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # making a database is no news
        path, uri, artifacts = run.path.resolve(), None, None
        self.where = "where MLFLOW_TRACKING_URI says"  # an address that may hold a password
        if not mlflow.is_tracking_uri_set():
            uri, artifacts = _store(path.parent), (path.parent / "mlartifacts").as_uri()
            self.where = f"mlflow ui --backend-store-uri {uri}"
        self._client = mlflow.MlflowClient(uri)
        self.identity = identity or self._begun(path.name, artifacts)
        self._client.update_run(self.identity, status="RUNNING")

    def _begun(self, name: str, artifacts: str | None) -> str:
        """A new run of the experiment that MLflow's own variables name, else of our own."""
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if not experiment:
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "blankcheck"
            known = self._client.get_experiment_by_name(title)
            made = known or self._client.create_experiment(title, artifacts)
            experiment = known.experiment_id if known else made
        return str(self._client.create_run(experiment, run_name=name).info.run_id)

    def config(self, config: Values, environment: Values) -> None:
        from mlflow.entities import Param

        values = leaves(config) | leaves(environment, ("environment",))
        named = [Param(name_of(path), str(value)) for path, value in values.items()]
        self._client.log_batch(self.identity, params=named)
        for name, whole in (("config", config), ("environment", environment)):
            self._client.log_dict(self.identity, dict(whole), f"{name}.json")

    def scalars(self, axis: str, step: int, values: Values) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self.identity, metrics=metrics)

    def image(self, picture: Picture) -> None:
        place = f"images/{picture.name}/{picture.step:04}.png"
        self._client.log_image(self.identity, picture.pixels, artifact_file=place)

    def verdict(self, word: str) -> None:
        self._client.set_tag(self.identity, "verdict", word)

    def close(self, finished: bool) -> None:
        self._client.set_terminated(self.identity, "FINISHED" if finished else "KILLED")


def _store(folder: Path) -> str:
    if {"?", "%"} & set(str(folder)):  # in the address of a store, these begin something else
        why = f"MLflow cannot keep a store in {folder}; name one in MLFLOW_TRACKING_URI"
        raise ArgumentError(why)
    return f"sqlite:///{folder / 'mlflow.db'}"


class _Wandb(Tracker):
    """A run beside the run folder, offline unless the user is logged in or set WANDB_MODE. Its own
    step counts what was sent; `batch`, `epoch` and `round` are the axes of the numbers."""

    def __init__(self, run: RunFolder, identity: str | None, sent: int) -> None:
        import wandb

        path, given, off = run.path.resolve(), os.environ.get, dict.fromkeys(OFF, True)
        off |= {"silent": True, "x_save_requirements": False}
        every = {"console": "off", "x_transaction_log_flush_interval": 1}  # seconds
        self._run = wandb.init(
            id=identity or secrets.token_hex(4),
            resume="allow",
            mode=_mode(),
            dir=given("WANDB_DIR") or str(path.parent),
            project=given("WANDB_PROJECT") or "blankcheck",
            name=given("WANDB_NAME") or path.name,
            settings=wandb.Settings(**off, **every),
        )
        self.identity, self._known = str(self._run.id), set[str]()
        self.sent = max(sent, self._run.step)  # offline, it does not know its earlier steps
        place = f"wandb sync {Path(self._run.dir).parent}"
        self.where = place if self._run.offline else str(self._run.url or "disabled")

    def config(self, config: Values, environment: Values) -> None:
        self._run.config.update({**config, "environment": dict(environment)}, allow_val_change=True)

    def scalars(self, axis: str, step: int, values: Values) -> None:
        for kind in {name.partition("/")[0] for name in values} - self._known:
            self._run.define_metric(axis)
            self._run.define_metric(f"{kind}/*", step_metric=axis)
            self._known.add(kind)
        self._run.log({axis: step, **values}, step=self.sent)
        self.sent += 1

    def image(self, picture: Picture) -> None:
        import wandb

        image = wandb.Image(picture.pixels, caption=picture.words)
        self.scalars(picture.axis, picture.step, {picture.name: image})

    def verdict(self, word: str) -> None:
        self._run.summary["verdict"] = word

    def close(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


def _mode() -> Any:
    """The mode the user set; else online for those who are logged in, offline for all others."""
    import wandb

    asked = wandb.setup(settings=wandb.Settings(silent=True)).settings.mode
    if asked in ("offline", "dryrun", "disabled") or wandb.login(prompt=False):
        return asked
    if os.environ.get("WANDB_MODE"):
        why = f"WANDB_MODE is {asked}, and nobody is logged in"
        raise ArgumentError(f"{why}: wandb login, or WANDB_MODE=offline")
    return "offline"


TRACKERS = {"tensorboard": _TensorBoard, "mlflow": _MLflow, "wandb": _Wandb}
