//! Paints a scene: geometry is sampled at 2×2 points a pixel, the slowly varying colours once.

use image::{Rgb, RgbImage};

use super::field::{Field, mix, mix3, smooth, tone};
use super::scene::Scene;

/// Strength of the object's colours and of the ground's.
const STRENGTH: f32 = 0.25;
const GROUND_STRENGTH: f32 = 0.15;
/// How far the object is bent, in its own units.
const WARP: f32 = 0.2;
/// Sample points of a pixel, as fractions of it.
const TAPS: [(f32, f32); 4] = [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)];
/// Where the outline is this many pixels away, no sample of the pixel can touch the object (bend and pose stretch distances below 3 times).
const FAR: f32 = 3.0;

impl Scene {
    /// The image, `size` × `size` pixels.
    pub(super) fn paint(&self, size: u32) -> RgbImage {
        let pixel = 2.0 / size as f32;
        RgbImage::from_fn(size, size, |i, j| {
            let (left, top) = (i as f32 * pixel - 1.0, j as f32 * pixel - 1.0);
            let (x, y) = (left + 0.5 * pixel, top + 0.5 * pixel);
            let (mut inside, mut first, mut rim) = (0.0, 0.0, 0.0);
            let (u, v) = self.object_point(x, y);
            if self.form.outline(u, v) < FAR * pixel {
                for (dx, dy) in TAPS {
                    let tap = self.probe(left + dx * pixel, top + dy * pixel, pixel);
                    inside += tap.inside;
                    first += tap.inside * tap.first;
                    rim += tap.inside * tap.rim;
                }
            }
            let taps = TAPS.len() as f32;
            let mut color = [0.0; 3];
            if inside < taps {
                let lit = 1.0 - self.shadow * self.shaded(x, y);
                color = self.ground(x, y).map(|v| v * lit);
            }
            if inside > 0.0 {
                let object = self.object(x, y, first / inside).map(|v| v * (1.0 - 0.3 * rim / inside));
                color = mix3(color, object, inside / taps);
            }
            let slope = 1.0 + self.light_slope * (x * self.light_direction[0] + y * self.light_direction[1]);
            Rgb(std::array::from_fn(|c| ((color[c] * self.tint[c] * slope).clamp(0.0, 1.0) * 255.0).round() as u8))
        })
    }

    /// Frame to object coordinates: the pose, then the bend.
    fn object_point(&self, x: f32, y: f32) -> (f32, f32) {
        let (x, y) = (x - self.center[0], y - self.center[1]);
        let depth = 1.0 + self.perspective[0] * x + self.perspective[1] * y;
        let [a, b] = self.to_object;
        let (u, v) = ((a[0] * x + a[1] * y) / depth, (b[0] * x + b[1] * y) / depth);
        (u + WARP * self.field.at(1.3 * u + 90.0, 1.3 * v), v + WARP * self.field.at(1.3 * u, 1.3 * v + 90.0))
    }

    fn probe(&self, x: f32, y: f32, pixel: f32) -> Tap {
        let (u, v) = self.object_point(x, y);
        let d = self.form.outline(u, v);
        let inside = (0.5 - d / pixel).clamp(0.0, 1.0);
        let first = if inside > 0.0 { smooth(0.5 + 1.6 * self.form.pattern(u, v, d)) } else { 0.0 };
        Tap { inside, first, rim: smooth(1.0 + d / 0.08) }
    }

    /// How much of the light the object keeps from a point of the ground, in [0, 1].
    fn shaded(&self, x: f32, y: f32) -> f32 {
        const REACH: f32 = 0.13;
        let (u, v) = self.object_point(x + REACH * self.light_direction[0], y + REACH * self.light_direction[1]);
        smooth(0.5 - self.form.outline(u, v) / 0.2)
    }

    /// The object's colour where a share `first` of it is of the first colour. Complementary colours that run round the hues keep the mean
    /// colour of all images alike: a mean that differs is what SwAV would cluster by, since all crops of an image share it.
    fn object(&self, x: f32, y: f32, first: f32) -> [f32; 3] {
        let hue = self.hue + x * self.ramp[0] + y * self.ramp[1] + 0.5 * self.field.at(1.6 * x + 40.0, 1.6 * y);
        let a = tone(hue, STRENGTH, self.lumas[0]);
        let b = tone(hue + 0.5, STRENGTH, self.lumas[1]);
        mix3(b, a, first)
    }

    fn ground(&self, x: f32, y: f32) -> [f32; 3] {
        let along = x * self.ground_direction[0] + y * self.ground_direction[1];
        let drift = self.field.at(1.3 * x - 40.0, 1.3 * y);
        let value = match self.background {
            0 => along,
            1 => clouds(self.field, 1.8 * x, 1.8 * y - 40.0),
            2 => 2.0 * smooth(0.5 + 1.5 * (std::f32::consts::PI * self.ground_cycles * along).sin()) - 1.0,
            _ => drift,
        };
        let luma = self.ground_luma + self.ground_contrast * value;
        let mut color = tone(self.ground_hue - x * self.ramp[0] - y * self.ramp[1] + 0.5 * drift, GROUND_STRENGTH, luma);
        for blob in &self.blobs {
            let cover = smooth((blob.radius - (x - blob.x).hypot(y - blob.y)) / 0.08 + 0.5);
            if cover > 0.0 {
                color = mix3(color, tone(blob.hue, GROUND_STRENGTH, blob.luma), 0.8 * cover);
            }
        }
        color
    }
}

/// What one sample point tells, each in [0, 1].
struct Tap {
    /// On the object.
    inside: f32,
    /// Of the object's first colour.
    first: f32,
    /// Near the outline, where the surface turns away.
    rim: f32,
}

/// Two octaves of a field, in [-1, 1].
fn clouds(field: Field, x: f32, y: f32) -> f32 {
    mix(field.at(x, y), field.at(2.3 * x + 17.0, 2.3 * y), 0.35)
}
