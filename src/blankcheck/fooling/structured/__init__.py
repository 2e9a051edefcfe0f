"""Structured images: a few numbers say all of one, and no network is asked on the way to it.

A gradient leads to pixels that are good one by one. What a network is sure of may instead be a bar,
a frame, a stripe pattern or dots of one grey, with nothing on the way to it. Such images are too
many to list and few enough to meet by drawing them: a kind, a window, a pitch, a thickness, greys
and colours.

An image depends on its own numbers alone, to the bit, whatever its batch: only arithmetic whose
rounding is fixed is used, and no exponentials.
"""
