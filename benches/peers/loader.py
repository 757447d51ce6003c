"""The multi-crop loader of PIL + torchvision on one thread, for comparison with `cargo bench --bench loader`.

    python benches/peers/loader.py --tar PHOTOS.tar [--runs 3] [--images 80]

The same work: 2 x 224 (area .14-1) + 6 x 96 (.05-.14), flip, jitter .8/.8/.8/.2 p .8, grayscale p .2, Gaussian blur p .5
with PIL radius U(.1, 2), to float, normalise. Prints one JSON line.
"""
import argparse, io, json, random, statistics, tarfile, time

import PIL
import torch
import torchvision
from PIL import Image, ImageFilter
from torchvision.transforms import v2

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Blur:
    """Gaussian blur as SwAV has it."""

    def __call__(self, image):
        if random.random() < 0.5:
            return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
        return image


def crop(size, scale):
    jitter = v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8)
    tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose([v2.RandomResizedCrop(size, scale, antialias=True), v2.RandomHorizontalFlip(), jitter, v2.RandomGrayscale(0.2), Blur(), *tensor])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tar", required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=80)
    args = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    torch.manual_seed(0)
    with tarfile.open(args.tar) as tar:
        files = [tar.extractfile(entry).read() for entry in tar if entry.isfile()][: args.images]
    crops = [crop(224, (0.14, 1.0))] * 2 + [crop(96, (0.05, 0.14))] * 6

    def load(data):
        image = Image.open(io.BytesIO(data)).convert("RGB")
        return [c(image) for c in crops]

    for data in files[:10]:
        load(data)
    rates, cpu = [], []
    for _ in range(args.runs):
        start, used = time.perf_counter(), time.process_time()
        for data in files:
            load(data)
        rates.append(len(files) / (time.perf_counter() - start))
        cpu.append(len(files) / (time.process_time() - used))
    print(json.dumps({
        "bench": "loader", "images": len(files), "images_per_s": round(statistics.median(rates), 1), "runs": [round(r, 1) for r in rates],
        "images_per_cpu_s": round(statistics.median(cpu), 1), "threads": 1,
        "pillow": PIL.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__,
    }))


if __name__ == "__main__":
    main()
