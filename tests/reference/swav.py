"""Reference values of Sinkhorn, the SwAV loss, LARC and the schedule, in PyTorch float64.

    python swav.py [swav.safetensors]

Inputs are rounded to float32 first, so that both sides start from the same numbers. Needs torch, safetensors.
"""
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)
out = {}


def f32(x):
    return x.float().double()


def cosines(samples, prototypes, dim=16):
    return f32(F.normalize(torch.randn(samples, dim), dim=1) @ F.normalize(torch.randn(prototypes, dim), dim=1).t())


def sinkhorn(scores, eps, iterations):
    """vissl's distributed_sinkhorn with one rank: prototypes are rows of Q."""
    q = torch.exp((scores - scores.max()) / eps).t()
    q /= q.sum()
    k, b = q.shape
    for _ in range(iterations):
        q /= q.sum(1, keepdim=True) * k
        q /= q.sum(0, keepdim=True) * b
    return (q / q.sum(0, keepdim=True)).t().contiguous()


# Sinkhorn: 16 samples of the global batch; four lanes of 4, or one.
scores = cosines(16, 24)
out["sinkhorn.scores"] = scores
out["sinkhorn.eps05x3"] = sinkhorn(scores, 0.05, 3)
out["sinkhorn.eps03x10"] = sinkhorn(scores, 0.03, 10)
out["sinkhorn.alone_eps05x3"] = sinkhorn(scores[:4], 0.05, 3)
out["sinkhorn.alone_eps03x10"] = sinkhorn(scores[:4], 0.03, 10)

# Loss: 6 crops of a batch of 4, temperature .1.
crops, batch = 6, 4
s = cosines(crops * batch, 24).requires_grad_()
codes = [f32(sinkhorn(s[i * batch:(i + 1) * batch].detach(), 0.05, 3)) for i in range(2)]
loss = 0
for i in range(2):
    others = [v for v in range(crops) if v != i]
    loss = loss + sum(-(codes[i] * F.log_softmax(s[v * batch:(v + 1) * batch] / 0.1, 1)).sum(1).mean() for v in others) / (crops - 1)
loss = loss / 2
loss.backward()
out |= {"loss.scores": s.detach(), "loss.codes0": codes[0], "loss.codes1": codes[1], "loss.loss": loss.detach().reshape(1), "loss.d_scores": s.grad}

# LARC: flat vector of weight [6, 8], bias [8] (zeros), prototypes [5, 8] (frozen for 2 steps), buffer [4] (decay .9).
STEPS, LR, WD, TRUST = 5, 1.5, 1e-2, 0.02
for clip in (False, True):
    weight, bias = f32(torch.randn(6, 8)), torch.zeros(8)
    prototypes, buffer = f32(F.normalize(torch.randn(5, 8), dim=1)), f32(torch.rand(4))
    parameters = [torch.nn.Parameter(p.clone()) for p in (weight, bias, prototypes)]
    optimizer = torch.optim.SGD(parameters, lr=LR, momentum=0.9)
    name = "larc.clip" if clip else "larc.plain"
    out[f"{name}.start"] = torch.cat([weight.flatten(), bias, prototypes.flatten(), buffer])
    gradients, after = [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LR / (step + 1)
        lr = LR / (step + 1)
        grads = [f32(torch.randn_like(p) * 0.1) for p in parameters]
        grads[1] *= step != 3
        contribution = f32(torch.rand(4))
        gradients.append(torch.cat([g.flatten() for g in grads] + [contribution]))
        for i, (p, g) in enumerate(zip(parameters, grads)):
            if i == 2 and step < 2:
                p.grad = None
                continue
            pn, gn = p.detach().norm(), g.norm()
            p.grad = g.clone()
            if pn != 0 and gn != 0:
                a = TRUST * pn / (gn + WD * pn + 1e-8)
                a = min(a / lr, 1.0) if clip else a
                p.grad = (g + WD * p.detach()) * a
        optimizer.step()
        with torch.no_grad():
            parameters[2].copy_(F.normalize(parameters[2], dim=1))
        buffer = 0.9 * buffer + contribution
        after.append(torch.cat([p.detach().flatten() for p in parameters] + [buffer]))
    out[f"{name}.gradients"], out[f"{name}.after"] = torch.stack(gradients), torch.stack(after)

# Schedule: 40 steps, 10 of them warm up from .3 to 3, then a cosine to .003, by PyTorch's own schedulers.
sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3.0)
warm = torch.optim.lr_scheduler.LinearLR(sgd, start_factor=0.1, total_iters=10)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=30, eta_min=0.003)
plan = torch.optim.lr_scheduler.SequentialLR(sgd, [warm, cosine], milestones=[10])
rates = []
for _ in range(40):
    rates.append(sgd.param_groups[0]["lr"])
    sgd.step()
    plan.step()
out["schedule.lr"] = torch.tensor(rates)

save_file({k: v.contiguous() for k, v in out.items()}, sys.argv[1] if len(sys.argv) > 1 else __file__.replace(".py", ".safetensors"))
