"""Real images of your own, from any source: a function that returns them.

$ blankcheck train --data own_data.py:make --epochs 5
"""

from pathlib import Path

import numpy as np

import blankcheck as bc


def make() -> dict[str, np.ndarray | list[str]]:
    """Bars across and bars down. Arrays `x` and `y` are split 80/10/10; or give x_train, y_train,
    x_test and y_test.

    Images are (n, h, w), (n, c, h, w) or (n, h, w, c), bytes or floats in [0, 1].
    """
    numbers = np.random.default_rng(0)
    y = np.arange(800) % 2
    x = numbers.uniform(0, 0.2, (800, 8, 8))
    for image, label in zip(x, y, strict=True):
        image = image.T if label else image
        image[numbers.integers(1, 7)] += numbers.uniform(0.6, 0.8)
    return {"x": x, "y": y, "class_names": ["across", "down"]}


if __name__ == "__main__":
    data = bc.load_data(f"{Path(__file__)}:make")
    sizes = [len(split) for split in (data.train, data.validation, data.test)]
    print(f"{data.classes}: {sizes} training, validation and test images of {data.shape}")
