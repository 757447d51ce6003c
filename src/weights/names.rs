//! Our tensor names, which are timm's, in the words of other programs.

use super::Format;

/// The name of one of the trunk's tensors in a format.
pub(super) fn trunk(name: &str, format: Format) -> String {
    let theirs = match format {
        Format::Timm => None,
        Format::Torchvision => torchvision(name),
        Format::HuggingFace => hugging_face(name),
        Format::Vissl => vissl(name),
    };
    theirs.unwrap_or_else(|| name.to_owned())
}

/// The name of one of the head's or the prototypes' tensors in vissl's words. Its layers are numbered with all that lies between them: a linear layer
/// and a ReLU, with batch norm a third.
pub(super) fn head(name: &str, norm: bool) -> String {
    let numbered = |rest: &str, after: usize| {
        let (layer, tensor) = rest.split_once('.')?;
        let layer = layer.parse::<usize>().ok()?.checked_sub(1)?;
        Some(format!("projection_head.{}.{tensor}", layer * if norm { 3 } else { 2 } + after))
    };
    let linear = name.strip_prefix("head.fc").and_then(|rest| numbered(rest, 0));
    let theirs = linear.or_else(|| name.strip_prefix("head.bn").and_then(|rest| numbered(rest, 1)));
    theirs.unwrap_or_else(|| name.replace("prototypes.", "prototypes0."))
}

/// Where a tensor of a block lies: stage from 1, block from 0, module, rest.
fn block(name: &str) -> Option<(usize, usize, &str, &str)> {
    let (stage, rest) = name.strip_prefix('s')?.split_once(".b")?;
    let (block, rest) = rest.split_once('.')?;
    let (module, rest) = rest.split_once('.')?;
    Some((stage.parse().ok()?, block.parse::<usize>().ok()?.checked_sub(1)?, module, rest))
}

fn torchvision(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("stem.") {
        return Some(format!("stem.{}", layer(rest, ["0", "1"])?));
    }
    let (stage, block, module, rest) = block(name)?;
    let rest = match module {
        "downsample" => format!("proj.{}", layer(rest, ["0", "1"])?),
        "conv1" => format!("f.a.{}", layer(rest, ["0", "1"])?),
        "conv2" => format!("f.b.{}", layer(rest, ["0", "1"])?),
        "conv3" => format!("f.c.{}", layer(rest, ["0", "1"])?),
        _ => format!("f.{module}.{rest}"),
    };
    Some(format!("trunk_output.block{stage}.block{stage}-{block}.{rest}"))
}

fn hugging_face(name: &str) -> Option<String> {
    const WORDS: [&str; 2] = ["convolution", "normalization"];
    if let Some(rest) = name.strip_prefix("stem.") {
        return Some(format!("embedder.embedder.{}", layer(rest, WORDS)?));
    }
    let (stage, block, module, rest) = block(name)?;
    let rest = match module {
        "downsample" => format!("shortcut.{}", layer(rest, WORDS)?),
        "conv1" => format!("layer.0.{}", layer(rest, WORDS)?),
        "conv2" => format!("layer.1.{}", layer(rest, WORDS)?),
        "conv3" => format!("layer.3.{}", layer(rest, WORDS)?),
        _ => format!("layer.2.attention.{}", squeeze(rest)?),
    };
    Some(format!("encoder.stages.{}.layers.{block}.{rest}", stage - 1))
}

fn vissl(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("stem.") {
        return Some(format!("_feature_blocks.conv1.stem.{}", layer(rest, ["0", "1"])?));
    }
    let (stage, block, module, rest) = block(name)?;
    let rest = match module {
        "downsample" => layer(rest, ["proj", "bn"])?,
        "conv1" => format!("f.a.{}", layer(rest, ["0", "1"])?),
        "conv2" => format!("f.b.{}", layer(rest, ["0", "1"])?),
        "conv3" => format!("f.{}", layer(rest, ["c", "final_bn"])?),
        _ => format!("f.se.excitation.{}", squeeze(rest)?),
    };
    Some(format!("_feature_blocks.res{}.block{stage}-{block}.{rest}", stage + 1))
}

/// A convolution and the batch norm after it, by their names elsewhere.
fn layer(rest: &str, [conv, norm]: [&str; 2]) -> Option<String> {
    let (module, tensor) = rest.split_once('.')?;
    Some(format!("{}.{tensor}", if module == "conv" { conv } else { norm }))
}

/// The two layers of squeeze-and-excitation, numbered with the activations between them.
fn squeeze(rest: &str) -> Option<String> {
    let (module, tensor) = rest.split_once('.')?;
    Some(format!("{}.{tensor}", if module == "fc1" { 0 } else { 2 }))
}

/// A name without what wrappers put into it: fairscale's and PyTorch's modules around modules, and vissl's groups of blocks (`block2-part0.block2-1`).
pub(super) fn unwrapped(name: &str) -> String {
    let wrapper = |part: &str| {
        let group = || part.strip_prefix("block")?.split_once("-part").map(|(stage, part)| [stage, part]);
        let numbers = |parts: [&str; 2]| parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        ["_fsdp_wrapped_module", "_fpw_module", "module"].contains(&part) || group().is_some_and(numbers)
    };
    name.split('.').filter(|part| !wrapper(part)).collect::<Vec<_>>().join(".")
}
