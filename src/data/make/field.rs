//! Smooth random fields and colours.

/// A smooth random field over the plane (value noise: hashed lattice values, blended by a smoothstep).
#[derive(Debug, Clone, Copy)]
pub(super) struct Field(pub(super) u32);

impl Field {
    /// The value at a point, in [-1, 1]; lattice spacing 1.
    pub(super) fn at(self, x: f32, y: f32) -> f32 {
        let (fx, fy) = (x.floor(), y.floor());
        let (ix, iy) = (fx as i32, fy as i32);
        let (u, v) = (smooth(x - fx), smooth(y - fy));
        let corner = |dx: i32, dy: i32| self.lattice(ix.wrapping_add(dx), iy.wrapping_add(dy));
        let top = mix(corner(0, 0), corner(1, 0), u);
        let bottom = mix(corner(0, 1), corner(1, 1), u);
        mix(top, bottom, v)
    }

    /// A uniform value in [-1, 1) for a lattice point.
    fn lattice(self, x: i32, y: i32) -> f32 {
        let mut h = self.0 ^ (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77);
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
        h ^= h >> 15;
        (h >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// The colour of a hue (in turns) with the given brightness (Rec. 601 luma, before clipping) and strength of colour, in linear 0 to 1.
pub(super) fn tone(hue: f32, strength: f32, luma: f32) -> [f32; 3] {
    let angle = std::f32::consts::TAU * hue;
    let (s, c) = angle.sin_cos();
    let raw = [c, -0.5 * c + 0.866 * s, -0.5 * c - 0.866 * s];
    let own = 0.299 * raw[0] + 0.587 * raw[1] + 0.114 * raw[2];
    raw.map(|v| luma + strength * (v - own))
}

pub(super) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

pub(super) fn mix3(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|i| mix(a[i], b[i], t))
}

/// The smoothstep of a value clipped to [0, 1].
pub(super) fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
