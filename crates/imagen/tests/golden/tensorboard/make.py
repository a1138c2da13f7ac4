"""Writes events.bin and picture.png: an event file by TensorBoard's own writer, for src/train/event_file.rs.

    python make.py        (tensorboard, pillow)

Four events at one fixed time: the file's version, a session mark, three scalars, a picture of 3x2 pixels.
"""

from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

TIME = 1_700_000_000.25
here = Path(__file__).parent

picture = Image.new("RGB", (3, 2))
picture.putdata([(40 * i, 255 - 40 * i, 7 * i) for i in range(6)])
picture.save(here / "picture.png")
png = (here / "picture.png").read_bytes()

scalars = [("train/loss", 0.125), ("probe/right", 0.0), ("größe", -3.5e-9)]
image = Summary.Image(height=2, width=3, colorspace=3, encoded_image_string=png)
events = [
    Event(wall_time=TIME, file_version="brain.Event:2"),
    Event(wall_time=TIME, step=1, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=TIME, step=300, summary=Summary(value=[Summary.Value(tag=t, simple_value=v) for t, v in scalars])),
    Event(wall_time=TIME, step=5_000_000_000, summary=Summary(value=[Summary.Value(tag="samples/grid", image=image)])),
]
with open(here / "events.bin", "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event.SerializeToString())
