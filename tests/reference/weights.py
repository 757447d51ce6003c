"""A tiny RegNetY in the files that other programs write: transformers, and vissl's whole, sharded and sliced checkpoints.

    python tests/reference/weights.py        # writes tests/reference/fixtures/weights/

Values are those of `fill` in model.py by our names. Needs what model.py needs, and transformers.
"""

import hashlib
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from torchvision.models.regnet import BlockParams, RegNet
from transformers import RegNetConfig, RegNetModel

from model import fill, filled, pooled, timm_name

OUT = pathlib.Path(__file__).parent / "fixtures" / "weights"
WIDTHS, DEPTHS, GROUP, STEM = [8], [2], 8, 8
HEAD, PROTOTYPES = [6, 4], 5


def hugging_face(name):
    """transformers' name of one of timm's."""
    words = [(".conv.", ".convolution."), (".bn.", ".normalization.")]
    if name.startswith("stem."):
        name = "embedder.embedder." + name[len("stem."):]
    else:
        stage, block, rest = name.split(".", 2)
        for old, new in [("downsample.", "shortcut."), ("conv1.", "layer.0."), ("conv2.", "layer.1."), ("conv3.", "layer.3."),
                         ("se.fc1.", "layer.2.attention.0."), ("se.fc2.", "layer.2.attention.2.")]:
            if rest.startswith(old):
                rest = new + rest[len(old):]
        name = f"encoder.stages.{int(stage[1:]) - 1}.layers.{int(block[1:]) - 1}.{rest}"
    for old, new in words:
        name = ("." + name).replace(old, new)[1:]
    return name


def vissl(name):
    """vissl's name of one of timm's, with FSDP's groups of blocks."""
    if name.startswith("stem."):
        return "_feature_blocks.conv1.stem." + {"conv": "0", "bn": "1"}[name.split(".")[1]] + "." + name.split(".")[2]
    stage, block, rest = name.split(".", 2)
    s, i = int(stage[1:]), int(block[1:]) - 1
    for old, new in [("downsample.conv", "proj"), ("downsample.bn", "bn"), ("conv1.conv", "f.a.0"), ("conv1.bn", "f.a.1"), ("conv2.conv", "f.b.0"),
                     ("conv2.bn", "f.b.1"), ("conv3.conv", "f.c"), ("conv3.bn", "f.final_bn"), ("se.fc1", "f.se.excitation.0"), ("se.fc2", "f.se.excitation.2")]:
        if rest.startswith(old + "."):
            return f"_feature_blocks.res{s + 1}.block{s}-part0.block{s}-{i}.{new}{rest[len(old):]}"
    raise KeyError(name)


def head():
    out, dims = {}, [WIDTHS[-1], *HEAD]
    for i, (a, b) in enumerate(zip(dims, dims[1:])):
        out[f"projection_head.{2 * i}.weight"] = fill(f"head.fc{i + 1}.weight", (b, a)).float()
        out[f"projection_head.{2 * i}.bias"] = fill(f"head.fc{i + 1}.bias", (b,)).float()
    out["prototypes0.weight"] = fill("prototypes.weight", (PROTOTYPES, HEAD[-1])).float()
    return out


def whole(trunk, heads, kind="consolidated"):
    return {"type": kind, "iteration": 7, "classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": heads}, "meta": {}}}}


def shards(state, ranks):
    """As fairscale's FSDP: each parameter flattened, cut into equal chunks, the last ones padded with zeros; buffers whole in each."""
    out = [{} for _ in range(ranks)]
    for name, value in state.items():
        buffer = "running" in name or "num_batches" in name
        chunks = list(value.flatten().chunk(ranks))
        for rank in range(ranks):
            chunk = chunks[rank] if rank < len(chunks) else value.new_zeros(0)
            out[rank][name] = value if buffer else torch.nn.functional.pad(chunk, (0, chunks[0].numel() - chunk.numel()))
    return out


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    params = BlockParams(DEPTHS, WIDTHS, [GROUP], [1.0], [2], 0.25)
    net = filled(RegNet(params, stem_width=STEM), timm_name).float().eval()
    ours = {timm_name(n): v for n, v in net.state_dict().items() if not n.startswith("fc.")}

    torch.set_default_dtype(torch.float32)
    config = RegNetConfig(embedding_size=STEM, hidden_sizes=WIDTHS, depths=DEPTHS, groups_width=GROUP, layer_type="y")
    model = RegNetModel(config).eval()
    model.load_state_dict({hugging_face(n): v for n, v in ours.items()})
    x = fill("input.weights", (2, 3, 32, 32)).float()
    with torch.no_grad():
        off = (model(x).pooler_output.flatten(1) - pooled(net, x)).abs().max()
    assert off < 1e-5, f"transformers and torchvision differ by {off}"
    save_file(model.state_dict(), OUT / "hugging_face.safetensors")

    trunk = {vissl(n): v for n, v in ours.items()}
    torch.save(whole(trunk, {f"0.{n}": v for n, v in head().items()}), OUT / "whole.torch")
    torch.save(whole({n: v.half() for n, v in trunk.items()}, {}), OUT / "half.torch", _use_new_zipfile_serialization=False)

    ranks = 3
    for rank, (t, h) in enumerate(zip(shards(trunk, ranks), shards(head(), ranks))):
        torch.save(whole(t, [h], "shard"), OUT / f"sharded_shard{rank}.torch")
    torch.save({"type": "shard_list", "shards": [f"sharded_shard{r}.torch" for r in range(ranks)]}, OUT / "sharded.torch")

    folder = OUT / "sliced_layers"
    folder.mkdir()
    names = {"trunk": {}, "heads": {}}
    for part, state in [("trunk", trunk), ("heads", {f"0.{n}": v for n, v in head().items()})]:
        for name, value in state.items():
            if name.endswith("num_batches_tracked"):
                continue
            file = hashlib.sha1(name.encode()).hexdigest() + ".torch"
            torch.save({"type": "slice", "weight": value}, folder / file)
            names[part][name] = f"/checkpoints/sliced_layers/{file}"
    torch.save({"type": "slice_list", "classy_state_dict": {"base_model": {"model": names}}}, OUT / "sliced.torch")
