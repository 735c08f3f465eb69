"""The Kubernetes target: everything that knows the words PyTorchJob, TrainJob and pod."""
