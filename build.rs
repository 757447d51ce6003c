//! With the feature `tch`: compiles the shim over libtorch and writes down where binaries find the library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "tch")]
    libtorch::link();
}

#[cfg(feature = "tch")]
mod libtorch {
    use std::path::{Path, PathBuf};

    /// The folder that torch-sys, which has looked for libtorch before us, links against.
    pub(super) fn link() {
        const SHIM: &str = "src/libtorch/shim.cpp";
        println!("cargo:rerun-if-changed={SHIM}");
        let Some(lib) = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
            panic!("torch-sys does not say where libtorch lies; run ./libtorch.sh or set LIBTORCH, then build again");
        };
        // Cargo sets LD_LIBRARY_PATH itself for `run` and `test`: only a path in the binary holds everywhere.
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
        let include = std::env::var_os("LIBTORCH_INCLUDE").map_or_else(|| lib.join("../include"), |at| Path::new(&at).join("include"));
        println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");
        println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
        let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .warnings(false)
            .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
            .include(&include)
            .include(include.join("torch/csrc/api/include"))
            .file(SHIM)
            .compile("everstep_libtorch");
    }
}
