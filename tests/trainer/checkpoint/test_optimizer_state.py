import torch

from jobctl.trainer.checkpoint.optimizer_state import materialise, optimizer_tensors


def test_the_state_is_there_before_the_first_step_and_changes_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.5)

    materialise(optimizer)

    assert weight.tolist() == [1, 1, 1]
    assert weight.grad is None
    assert optimizer.param_groups[0]["lr"] == 0.1
    state = optimizer_tensors(optimizer, {weight: "w"})
    assert state.keys() == {"optimizer.w.step", "optimizer.w.exp_avg", "optimizer.w.exp_avg_sq"}
    assert not any(tensor.any() for tensor in state.values())


def test_a_first_step_after_it_is_that_of_a_new_optimiser() -> None:
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizers = [torch.optim.AdamW([weight], lr=0.1) for weight in weights]
    materialise(optimizers[0])
    for weight, optimizer in zip(weights, optimizers, strict=True):
        weight.grad = torch.tensor([1.0, -2.0, 0.5])
        optimizer.step()
    assert torch.equal(weights[0], weights[1])
