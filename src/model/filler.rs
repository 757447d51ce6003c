//! Weights and inputs from their names alone, as `tests/reference/model.py` computes them.

use burn::tensor::Device;

/// The device that tests compute on: flex, or the one that `EVERSTEP_TEST_DEVICE` names.
pub(crate) fn device() -> Device {
    match std::env::var("EVERSTEP_TEST_DEVICE").as_deref() {
        Err(_) | Ok("flex") => Device::flex(),
        #[cfg(feature = "tch")]
        Ok("libtorch:cpu") => crate::libtorch::cpu().unwrap(),
        Ok(other) => panic!("EVERSTEP_TEST_DEVICE={other} is no device that this build can test"),
    }
}

/// Uniform [0, 1) with 24 bits: FNV-1a of the name as the key, a SplitMix64 round on the index.
fn uniform(name: &str, index: usize) -> f64 {
    let key = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut z = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(key);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f64 / f64::from(1 << 24)
}

/// The values of a tensor.
pub(crate) fn fill(name: &str, shape: &[usize]) -> Vec<f32> {
    let fan_in = shape.iter().skip(1).product::<usize>() as f64;
    let value = |u: f64| match () {
        () if name.starts_with("input") => (u - 0.5) * 4.0,
        () if shape.len() > 1 => (u - 0.5) * 2.0 * (6.0 / fan_in).sqrt(),
        () if name.ends_with("running_var") || name.ends_with(".weight") => 0.5 + u,
        () => (u - 0.5) * 0.4,
    };
    (0..shape.iter().product()).map(|i| value(uniform(name, i)) as f32).collect()
}

/// All units of a model.
pub(crate) fn units(model: &super::Model) -> Vec<std::sync::Arc<Vec<f32>>> {
    let unit = |unit: &super::Unit| unit.tensors.iter().flat_map(|t| fill(&t.name, &t.shape)).collect();
    model.units().iter().map(|u| std::sync::Arc::new(unit(u))).collect()
}

/// A committed fixture.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/fixtures").join(name)).unwrap()
}

/// A tensor of a fixture.
pub(crate) fn tensor(fixture: &[u8], name: &str) -> Vec<f32> {
    let file = safetensors::SafeTensors::deserialize(fixture).unwrap();
    let view = file.tensor(name).unwrap();
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// ‖a − b‖ / ‖b‖.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut b.iter().map(|b| f64::from(*b)))
}
