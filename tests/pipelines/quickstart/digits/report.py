"""The evaluation: which candidate is best, and what it mistakes for what."""

from sklearn.metrics import confusion_matrix

from dispatch import step


@step("report")
def report(data: dict, candidates: dict) -> dict:
    """Choose the candidate that reads most digits rightly, and test it on digits it has not met."""
    images, labels = data["compare"]
    compared = {name: float(model.score(images, labels)) for name, model in candidates.items()}
    best = max(compared, key=lambda name: compared[name])
    images, labels = data["test"]
    answers = candidates[best].predict(images)
    return {
        "best": best,
        "accuracy": float((answers == labels).mean()),
        "tested": len(labels),
        "compared": compared,
        "labels": list(range(10)),
        "confusion": confusion_matrix(labels, answers).tolist(),
    }
