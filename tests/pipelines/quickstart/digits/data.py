"""The data: 1 797 handwritten digits of 8 × 8 pixels that ship inside scikit-learn."""

from sklearn.datasets import load_digits as load_bundled_digits
from sklearn.model_selection import train_test_split

from dispatch import step


@step("load_digits")
def load_digits(held_back: float = 0.4, seed: int = 0) -> dict:
    """Split the digits in three: to train on, to compare settings on, and to test the best one on."""
    images, labels = load_bundled_digits(return_X_y=True)
    train_images, rest_images, train_labels, rest_labels = train_test_split(
        images, labels, test_size=held_back, stratify=labels, random_state=seed
    )
    compare_images, test_images, compare_labels, test_labels = train_test_split(
        rest_images, rest_labels, test_size=0.5, stratify=rest_labels, random_state=seed
    )
    return {
        "train": (train_images, train_labels),
        "compare": (compare_images, compare_labels),
        "test": (test_images, test_labels),
    }
