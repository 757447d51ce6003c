"""Parameters and multiply-adds of every RegNetY with a name, counted on torchvision's modules without a weight (meta device).

    python tests/reference/family.py        # writes tests/reference/fixtures/family.json

Needs torch and torchvision. Multiply-adds are those of convolutions (squeeze-and-excitation among them) for one image of 224 x 224.
"""

import json
import math
import pathlib

import torch
from torchvision.models.regnet import BlockParams, RegNet

OUT = pathlib.Path(__file__).parent / "fixtures" / "family.json"

NUMBERS = {
    "regnet_y_400mf": (16, 48, 27.89, 2.09, 8),
    "regnet_y_800mf": (14, 56, 38.84, 2.4, 16),
    "regnet_y_1_6gf": (27, 48, 20.71, 2.65, 24),
    "regnet_y_3_2gf": (21, 80, 42.63, 2.66, 24),
    "regnet_y_8gf": (17, 192, 76.82, 2.19, 56),
    "regnet_y_16gf": (18, 200, 106.23, 2.48, 112),
    "regnet_y_32gf": (20, 232, 115.89, 2.53, 232),
    "regnet_y_64gf": (20, 352, 147.48, 2.4, 328),
    "regnet_y_128gf": (27, 456, 160.83, 2.52, 264),
    "regnet_y_256gf_classy": (27, 640, 124.47, 2.04, 848),
    "regnet_y_256gf": (27, 640, 230.83, 2.53, 373),
    "seer_10b": (27, 1744, 620.83, 2.52, 1010),
}
STAGES = {
    "toy": ([1, 2, 1], [32, 64, 128], 16),
    "seer_3b": ([1, 4, 4, 1], [1840, 3680, 10120, 25760], 920),
}


def classy(depth, w_0, w_a, w_m, group):
    """ClassyVision's stages: widths quantised to w_0 * w_m^k in eights, then to the nearest multiple of the group width."""
    widths = []
    for j in range(depth):
        k = round(math.log((w_0 + w_a * j) / w_0) / math.log(w_m))
        widths.append(round(w_0 * w_m**k / 8) * 8)
    stages = sorted(set(widths))
    groups = [min(group, w) for w in stages]
    return [widths.count(w) for w in stages], [round(w / g) * g for w, g in zip(stages, groups)], groups


def explicit(depths, widths, group):
    n = len(depths)
    groups = group if isinstance(group, list) else [group] * n
    return BlockParams(depths, widths, groups, [1.0] * n, [2] * n, 0.25)


def count(params):
    with torch.device("meta"):
        net = RegNet(params, num_classes=1)
    trunk = [net.stem, net.trunk_output]
    macs = 0

    def hook(module, _, y):
        nonlocal macs
        macs += y[0].numel() * module.weight[0].numel()

    for part in trunk:
        for module in part.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(hook)
    net.trunk_output(net.stem(torch.empty(1, 3, 224, 224, device="meta")))
    return [sum(p.numel() for part in trunk for p in part.parameters()), macs]


if __name__ == "__main__":
    out = {}
    for name, numbers in NUMBERS.items():
        torchvision = BlockParams.from_init_params(*numbers, se_ratio=0.25)
        out[name] = {"classy": count(explicit(*classy(*numbers))), "torchvision": count(torchvision)}
    for name, stages in STAGES.items():
        out[name] = {"classy": count(explicit(*stages)), "torchvision": count(explicit(*stages))}
    OUT.write_text(json.dumps(out, indent=0) + "\n")
