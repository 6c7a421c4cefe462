"""The training: a support vector machine with one setting."""

from sklearn.svm import SVC

from dispatch import Step


@Step.register("train")
class Train(Step):
    """Fit a classifier. ``gamma`` says how near two pictures must be to count as alike."""

    VERSION = "001"

    def run(self, data: dict, gamma: float = 0.001, C: float = 1.0) -> SVC:
        images, labels = data["train"]
        return SVC(gamma=gamma, C=C).fit(images, labels)
