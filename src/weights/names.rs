//! Our tensor names, which are timm's, in torchvision's words.

use super::Format;

/// The name of one of the trunk's tensors in a format.
pub(super) fn named(name: &str, format: Format) -> String {
    match format {
        Format::Timm => name.to_owned(),
        Format::Torchvision => torchvision(name).unwrap_or_else(|| name.to_owned()),
    }
}

fn torchvision(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("stem.") {
        return Some(format!("stem.{}", layer(rest)?));
    }
    let (stage, rest) = name.strip_prefix('s')?.split_once(".b")?;
    let (block, rest) = rest.split_once('.')?;
    let block = block.parse::<usize>().ok()?.checked_sub(1)?;
    let (module, rest) = rest.split_once('.')?;
    let rest = match module {
        "downsample" => format!("proj.{}", layer(rest)?),
        "conv1" => format!("f.a.{}", layer(rest)?),
        "conv2" => format!("f.b.{}", layer(rest)?),
        "conv3" => format!("f.c.{}", layer(rest)?),
        _ => format!("f.{module}.{rest}"),
    };
    Some(format!("trunk_output.block{stage}.block{stage}-{block}.{rest}"))
}

/// A convolution is a Conv2dNormActivation's first layer, its batch norm the second.
fn layer(rest: &str) -> Option<String> {
    let (module, tensor) = rest.split_once('.')?;
    Some(format!("{}.{tensor}", if module == "conv" { 0 } else { 1 }))
}
