"""TensorBoard: event files in the run folder, written with TensorBoard's own record writer and
protocol buffers.

Its usual writer has a thread, which prints a traceback of its own when the disk is full; this one
has none.
"""

from __future__ import annotations

import importlib
import io
import time
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from blankcheck.runs.folder import EVENTS, RunFolder
from blankcheck.trackers.base import flat
from blankcheck.trackers.pictures import Picture
from blankcheck.trackers.rows import Row

NAME = "tensorboard"


def connect(run: RunFolder, resume: bool) -> TensorBoard:
    """The event files of a run folder; those of before are read, when it goes on."""
    importlib.import_module("tensorboard.summary.writer.record_writer")
    return TensorBoard(run, resume)


class TensorBoard:
    """One event a row, its numbers in single precision: TensorBoard's quick reader shows no other.
    The file begins with the first thing written."""

    def __init__(self, run: RunFolder, resume: bool) -> None:
        self._run = run
        self.last = _steps(run) if resume else {}
        self.where = f"tensorboard --logdir {run / EVENTS}"
        self._file: io.FileIO | None = None

    def configure(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Two texts."""
        self._write(
            [
                (0, _text(name, "\n".join(f"{k}: {v}" for k, v in flat(values).items())))
                for name, values in (("config", config), ("environment", environment))
            ]
        )

    def numbers(self, rows: Sequence[Row]) -> None:
        """One event a row, so that a row is there whole or not at all."""
        self._write([(row.step, _scalars(row)) for row in rows])

    def pictures(self, pictures: Sequence[Picture]) -> None:
        """One event a picture."""
        self._write([(picture.step, _image(picture)) for picture in pictures])

    def verdict(self, word: str) -> None:
        """A text."""
        if self.last.get("verdict") is None:
            self.last["verdict"] = 0
            self._write([(0, _text("verdict", word))])

    def close(self, finished: bool) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, summaries: Sequence[tuple[int, Any]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        now, events = time.time(), []
        if self._file is None:
            # the name sorts by time, and has no name of the machine in it
            name = f"events.out.tfevents.{time.time_ns()}.blankcheck"
            self._file = (self._run.folder(EVENTS) / name).open("ab", buffering=0)
            events.append(Event(wall_time=now, file_version="brain.Event:2"))
        events += [Event(wall_time=now, step=step, summary=summary) for step, summary in summaries]
        buffer = io.BytesIO()
        writer = RecordWriter(buffer)
        for event in events:
            writer.write(event.SerializeToString())
        try:
            written = self._file.write(buffer.getvalue())
            if written != buffer.tell():
                raise OSError(
                    f"only {written} of {buffer.tell()} bytes were written to {self._run / EVENTS}"
                )
        except BaseException:
            self.close(finished=False)
            raise


def _steps(run: RunFolder) -> dict[str, int]:
    """The last step of every tag in the event files of a folder.

    A file that ends within an event is read up to there.
    """
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    last: dict[str, int] = {}
    for name in run.names(f"{EVENTS}/events.out.tfevents.*"):
        for event in LegacyEventFileLoader(str(run / name)).Load():
            last |= {
                value.tag: max(event.step, last.get(value.tag, -1)) for value in event.summary.value
            }
    return last


def _scalars(row: Row) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(
        value=[Summary.Value(tag=name, simple_value=number) for name, number in row.values.items()]
    )


def _image(picture: Picture) -> Any:
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, SummaryMetadata

    buffer = io.BytesIO()
    Image.fromarray(picture.pixels).save(buffer, "PNG")
    high, wide = picture.pixels.shape[:2]
    plugin = SummaryMetadata.PluginData(plugin_name="images")
    kind = SummaryMetadata(
        plugin_data=plugin,
        data_class=DATA_CLASS_BLOB_SEQUENCE,
        summary_description=_block(picture.words),
    )
    return _strings(
        picture.name, kind, [str(wide).encode(), str(high).encode(), buffer.getvalue()], [3]
    )


def _text(name: str, words: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, SummaryMetadata

    kind = SummaryMetadata(
        plugin_data=SummaryMetadata.PluginData(plugin_name="text"), data_class=DATA_CLASS_TENSOR
    )
    return _strings(name, kind, [_block(words).encode(errors="replace")], [])


def _strings(name: str, kind: Any, strings: Sequence[bytes], shape: Sequence[int]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    form = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])
    tensor = TensorProto(dtype=DT_STRING, tensor_shape=form, string_val=strings)
    return Summary(value=[Summary.Value(tag=name, metadata=kind, tensor=tensor)])


def _block(words: str) -> str:
    """Words as a code block of Markdown, which shows them as they are."""
    return "\n".join(f"    {line}" for line in words.splitlines())
