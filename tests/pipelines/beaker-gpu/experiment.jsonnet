{
    "include_package": ["training"],
    "steps": {
        "train": {
            "type": "torch::train",
            "step_resources": {
                "gpu_count": 1
            }
        }
    }
}
