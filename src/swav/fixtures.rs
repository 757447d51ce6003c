//! Reference values for tests: `tests/reference/swav.safetensors`, made by the script beside it.

use safetensors::SafeTensors;

/// The file's bytes.
pub(crate) struct Fixture(Vec<u8>);

impl Fixture {
    pub(crate) fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/swav.safetensors");
        Self(std::fs::read(path).unwrap())
    }

    /// A tensor's values.
    pub(crate) fn f64s(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), safetensors::Dtype::F64, "{name}");
        tensor.data().as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
    }

    /// A tensor's values, rounded.
    pub(crate) fn f32s(&self, name: &str) -> Vec<f32> {
        self.f64s(name).into_iter().map(|value| value as f32).collect()
    }
}

/// ‖a − b‖ / ‖b‖.
pub(crate) fn distance(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let off: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    (off / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}
