"""Reference values for the model, computed with PyTorch, torchvision and timm in float64.

    python tests/reference/model.py        # writes tests/reference/fixtures/model*.{safetensors,json}

Weights are not stored: `fill` computes them from a tensor's name, and the Rust tests do the same
(src/model/filler.rs). Needs torch, torchvision, timm, numpy and safetensors.
"""

import json
import pathlib

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.numpy import save_file
from torchvision.models.regnet import BlockParams, RegNet

HERE = pathlib.Path(__file__).parent / "fixtures"
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def uniform(name, count):
    """Uniform [0, 1) with 24 bits: FNV-1a of the name as the key, a SplitMix64 round on the index."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    with np.errstate(over="ignore"):
        z = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / (1 << 24)


def fill(name, shape):
    """The value of a tensor as f32 numbers in float64."""
    shape = tuple(int(s) for s in shape)
    u = uniform(name, int(np.prod(shape)))
    if name.startswith("input"):
        v = (u - 0.5) * 4.0
    elif len(shape) > 1:
        v = (u - 0.5) * 2.0 * np.sqrt(6.0 / np.prod(shape[1:]))
    elif name.endswith("running_var") or name.endswith(".weight"):
        v = 0.5 + u
    else:
        v = (u - 0.5) * 0.4
    return torch.from_numpy(v.astype(np.float32).astype(np.float64)).reshape(shape)


def timm_name(name):
    """torchvision's name of a trunk tensor in timm's style."""
    if name.startswith("stem"):
        return name.replace("stem.0", "stem.conv").replace("stem.1", "stem.bn")
    _, _, block, rest = name.split(".", 3)
    stage, index = block[len("block"):].split("-")
    for old, new in [("proj.0", "downsample.conv"), ("proj.1", "downsample.bn"), ("f.a.0", "conv1.conv"), ("f.a.1", "conv1.bn"),
                     ("f.b.0", "conv2.conv"), ("f.b.1", "conv2.bn"), ("f.c.0", "conv3.conv"), ("f.c.1", "conv3.bn"), ("f.se", "se")]:
        rest = rest.replace(old, new)
    return f"s{stage}.b{int(index) + 1}.{rest}"


def filled(model, rename, variance=1.0):
    state = {}
    for name, value in model.state_dict().items():
        head = name.startswith(("fc.", "head."))
        state[name] = value if head or name.endswith("num_batches_tracked") else fill(rename(name), value.shape)
        if name.endswith("running_var"):
            state[name] = state[name] * variance
    model.load_state_dict(state)
    return model.double()


def pooled(model, x):
    return model.avgpool(model.trunk_output(model.stem(x))).flatten(1)


def forward():
    out = {}
    big = filled(torchvision.models.regnet_y_400mf(), timm_name)
    params = BlockParams([1, 2, 1], [32, 64, 128], [16, 16, 16], [1.0, 1.0, 1.0], [2, 2, 2], 0.25)
    toy = filled(RegNet(params), timm_name)
    for key, model, size in [("regnet_y_400mf", big, 64), ("toy", toy, 32)]:
        x = fill(f"input.{key}", (3, 3, size, size))
        with torch.no_grad():
            out[f"{key}.eval"] = pooled(model.eval(), x).numpy().astype(np.float32)
            out[f"{key}.train"] = pooled(model.train(), x).numpy().astype(np.float32)
    other = filled(timm.create_model("regnety_004"), lambda n: n).eval()
    x = fill("input.regnet_y_400mf", (3, 3, 64, 64))
    with torch.no_grad():
        features = other.forward_features(x).mean((2, 3)).numpy()
    assert np.abs(features - out["regnet_y_400mf.eval"]).max() < 1e-5 * np.abs(features).max(), "timm and torchvision disagree"
    save_file(out, HERE / "model_forward.safetensors")
    save_file(family(), HERE / "model_family.safetensors")

    def listing(model):
        return {n: [str(v.dtype).split(".")[-1], list(v.shape)] for n, v in model.state_dict().items() if not n.startswith(("fc.", "head."))}

    torch.set_default_dtype(torch.float32)
    names = {"torchvision": listing(torchvision.models.regnet_y_400mf()), "timm": listing(timm.create_model("regnety_004"))}
    torch.set_default_dtype(torch.float64)
    (HERE / "model_names.json").write_text(json.dumps(names, indent=0))


# name: (rounding, timm's name, torchvision's own constructor or explicit depths, widths and group width)
FAMILY = {
    "regnet_y_400mf.classy": ("regnety_004", torchvision.models.regnet_y_400mf),
    "regnet_y_800mf.classy": ("regnety_008", ([1, 3, 8, 2], [64, 128, 320, 768], 16)),
    "regnet_y_800mf.torchvision": ("regnety_008_tv", torchvision.models.regnet_y_800mf),
    "regnet_y_1_6gf.classy": ("regnety_016", torchvision.models.regnet_y_1_6gf),
    "regnet_y_3_2gf.classy": ("regnety_032", torchvision.models.regnet_y_3_2gf),
    "regnet_y_8gf.classy": ("regnety_080", ([2, 4, 10, 1], [168, 448, 896, 2016], 56)),
    "regnet_y_8gf.torchvision": ("regnety_080_tv", torchvision.models.regnet_y_8gf),
    "regnet_y_16gf.torchvision": ("regnety_160", torchvision.models.regnet_y_16gf),
}


# Running variances of random weights that are 1 on average let maps grow until float32 itself is off by a hundredth.
VARIANCE = 4.0


def family():
    """The first 64 features of four images and the norm of all, in evaluation and in training; timm must agree."""
    out = {}
    for key, (name, made) in FAMILY.items():
        if callable(made):
            model = made()
        else:
            depths, widths, group = made
            model = RegNet(BlockParams(depths, widths, [group] * 4, [1.0] * 4, [2] * 4, 0.25))
        model = filled(model, timm_name, VARIANCE)
        x = fill(f"input.{key}", (4, 3, 64, 64))
        with torch.no_grad():
            results = {"eval": pooled(model.eval(), x), "train": pooled(model.train(), x)}
            other = filled(timm.create_model(name), lambda n: n, VARIANCE).eval().forward_features(x).mean((2, 3))
        off = (other - results["eval"]).norm() / other.norm()
        assert off < 1e-9, f"{key}: timm's {name} differs by {off}"
        for mode, features in results.items():
            out[f"{key}.{mode}"] = features[:, :64].contiguous().numpy().astype(np.float32)
            out[f"{key}.{mode}.norm"] = features.norm().reshape(1).numpy().astype(np.float32)
    return out


class Small:
    """The whole model of the step fixture: names, shapes and a forward in training mode, written out by hand."""

    stem, widths, depths, group, head, prototypes = 8, [16, 32], [1, 2], 8, [24, 12], 20

    def __init__(self):
        self.p, self.b = {}, {}

    def get(self, name, *shape):
        if name not in self.p:
            self.p[name] = fill(name, shape).requires_grad_()
        return self.p[name]

    def bn(self, name, x):
        c = x.shape[1]
        mean = self.b.setdefault(f"{name}.running_mean", fill(f"{name}.running_mean", (c,)))
        var = self.b.setdefault(f"{name}.running_var", fill(f"{name}.running_var", (c,)))
        return F.batch_norm(x, mean, var, self.get(f"{name}.weight", c), self.get(f"{name}.bias", c), True, 0.1, 1e-5)

    def conv(self, name, x, out, k=1, stride=1, groups=1):
        w = self.get(f"{name}.conv.weight", out, x.shape[1] // groups, k, k)
        return self.bn(f"{name}.bn", F.conv2d(x, w, None, stride, k // 2, 1, groups))

    def block(self, name, x, width, stride):
        c = x.shape[1]
        short = self.conv(f"{name}.downsample", x, width, 1, stride) if c != width or stride != 1 else x
        y = F.relu(self.conv(f"{name}.conv1", x, width))
        y = F.relu(self.conv(f"{name}.conv2", y, width, 3, stride, width // self.group))
        r = max(1, round(0.25 * c))
        s = F.relu(F.conv2d(y.mean((2, 3), keepdim=True), self.get(f"{name}.se.fc1.weight", r, width, 1, 1), self.get(f"{name}.se.fc1.bias", r)))
        s = F.conv2d(s, self.get(f"{name}.se.fc2.weight", width, r, 1, 1), self.get(f"{name}.se.fc2.bias", width))
        return F.relu(short + self.conv(f"{name}.conv3", y * torch.sigmoid(s), width))

    def features(self, x):
        x = F.relu(self.conv("stem", x, self.stem, 3, 2))
        for s, (width, depth) in enumerate(zip(self.widths, self.depths), 1):
            for i in range(depth):
                x = self.block(f"s{s}.b{i + 1}", x, width, 2 if i == 0 else 1)
        return x

    def pooled(self, groups, padded):
        if not padded:
            return torch.cat([self.features(x).mean((2, 3)) for x in groups])
        side = max(x.shape[2] for x in groups)
        maps = self.features(torch.cat([F.pad(x, (0, side - x.shape[3], 0, side - x.shape[2])) for x in groups]))
        rows = []
        for x, part in zip(groups, maps.split([len(x) for x in groups])):
            mask = F.pad(torch.ones(1, 1, *x.shape[2:]), (0, side - x.shape[3], 0, side - x.shape[2]))
            mask = F.interpolate(mask, size=maps.shape[2:], mode="nearest")[0, 0] > 0
            rows.append(part[:, :, mask].mean(2))
        return torch.cat(rows)

    def scores(self, groups, padded=False):
        x = self.pooled(groups, padded)
        for i, width in enumerate(self.head, 1):
            x = F.linear(x, self.get(f"head.fc{i}.weight", width, x.shape[1]), self.get(f"head.fc{i}.bias", width))
            if i < len(self.head):
                x = F.relu(self.bn(f"head.bn{i}", x))
        return F.normalize(x) @ self.get("prototypes.weight", self.prototypes, self.head[-1]).T


def sinkhorn(scores, epsilon=0.03, iterations=10):
    q = torch.exp((scores - scores.max()) / epsilon).T
    q = q / q.sum()
    k, b = q.shape
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / k
        q = q / q.sum(0, keepdim=True) / b
    return (q * b).T


def quadratic(scores, batch):
    target = 0.1 * (torch.arange(scores.shape[1]) % 7)
    return 0.5 * ((scores - target) ** 2).sum(1).mean()


def swav(scores, batch):
    parts = scores.split(batch)
    total = 0.0
    for i in range(2):
        q = sinkhorn(parts[i].detach())
        others = [-(q * F.log_softmax(parts[v] / 0.1, 1)).sum(1).mean() for v in range(len(parts)) if v != i]
        total = total + sum(others) / len(others)
    return total / 2


def step():
    batch, out = 16, {}
    groups = [fill("input.large", (2 * batch, 3, 16, 16)), fill("input.small", (2 * batch, 3, 8, 8))]
    for key, objective in [("quadratic", quadratic), ("swav", swav)]:
        model = Small()
        loss = objective(model.scores(groups), batch)
        loss.backward()
        out[f"{key}.loss"] = np.array([loss.item()], np.float32)
        for name, p in model.p.items():
            out[f"{key}.grad.{name}"] = p.grad.numpy().astype(np.float32)
    for name, value in model.b.items():
        out[f"buffer.{name}"] = value.numpy().astype(np.float32)
    save_file(out, HERE / "model_step.safetensors")


def collect(key, model, loss):
    out = {f"{key}.loss": np.array([loss.item()], np.float32)}
    out |= {f"{key}.grad.{name}": p.grad.numpy().astype(np.float32) for name, p in model.p.items()}
    return out | {f"{key}.buffer.{name}": value.numpy().astype(np.float32) for name, value in model.b.items()}


def kinds():
    """A step as SEER padded its crops; a step whose batch norms see half of the batch, by PyTorch's SyncBatchNorm over two processes each."""
    batch = 16
    groups = [fill("input.large", (2 * batch, 3, 16, 16)), fill("input.small", (2 * batch, 3, 8, 8))]
    model = Small()
    loss = swav(model.scores(groups, padded=True), batch)
    loss.backward()
    out = collect("padded", model, loss)

    # Two groups of two lanes: the same weights, batch norms of each half by themselves, one Sinkhorn over all.
    halves = [Small(), Small()]
    halves[1].p = halves[0].p
    crops = [x.split(batch) for x in groups]
    scores = [half.scores([torch.cat([c[i * 8:(i + 1) * 8] for c in x]) for x in crops]) for i, half in enumerate(halves)]
    together = torch.cat([torch.cat([s.split(8)[c] for s in scores]) for c in range(4)])
    loss = swav(together, batch)
    loss.backward()
    # Running statistics: ours are the mean over lanes of what each lane's group measured.
    halves[0].b = {name: (value + halves[1].b[name]) / 2 for name, value in halves[0].b.items()}
    save_file(out | collect("pairs", halves[0], loss), HERE / "model_kinds.safetensors")


# A rate at which float32 itself stays within 1.2e-5 of float64 for twenty steps (weights off by 1e-7 in twenty ways). At twice the rate it does not
# (1e-6 to 2e-2): some map's value lies so close to the ReLU's bend that its last bit decides, and every later step magnifies that.
def learning_rate(step, steps=20, lr=1.0, start=0.1, final=0.001, warmup=0.2):
    fraction = step / steps
    if fraction < warmup:
        return start + (lr - start) * fraction / warmup
    return final + (lr - final) * 0.5 * (1 + np.cos(np.pi * (fraction - warmup) / (1 - warmup)))


def larc(p, m, lr, trust=1e-3, decay=1e-4, momentum=0.9, eps=1e-8):
    """One step of a tensor, in place."""
    length, slope = p.norm(), p.grad.norm()
    g = p.grad
    if length > 0 and slope > 0:
        g = (g + decay * p) * trust * length / (slope + decay * length + eps)
    m.mul_(momentum).add_(g)
    p.sub_(lr * m)


def run(steps=20, frozen=2):
    """Whole steps of SwAV with LARC: weights and running statistics after the last, momentum after the third, the loss of each."""
    batch, out, losses = 16, {}, []
    groups = [fill("input.large", (2 * batch, 3, 16, 16)), fill("input.small", (2 * batch, 3, 8, 8))]
    model = Small()
    # A bias before a batch norm has no gradient but rounding's, which LARC would make a step of full length: it starts at 0.
    model.p["head.fc1.bias"] = torch.zeros(model.head[0]).requires_grad_()
    momentum = {}
    for step in range(steps):
        loss = swav(model.scores(groups), batch)
        for p in model.p.values():
            p.grad = None
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            for name, p in model.p.items():
                m = momentum.setdefault(name, torch.zeros_like(p))
                if name == "prototypes.weight" and step < frozen:
                    p.copy_(F.normalize(p))
                    continue
                larc(p, m, learning_rate(step))
                if name == "prototypes.weight":
                    p.copy_(F.normalize(p))
        if step == 2:
            # Early: after twenty steps the newest gradients answer to differences of the weights that only float64 keeps.
            out |= {f"momentum.{name}": m.numpy().astype(np.float32) for name, m in momentum.items()}
    out["loss"] = np.array(losses, np.float32)
    for name, p in model.p.items():
        out[f"value.{name}"] = p.detach().numpy().astype(np.float32)
    for name, value in model.b.items():
        out[f"value.{name}"] = value.numpy().astype(np.float32)
    save_file(out, HERE / "model_run.safetensors")


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    forward()
    step()
    kinds()
    run()
