//! Where things lie in this checkout: the private PostgreSQL tree, the built binaries, the fixtures.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// The directory of the `tests` crate.
pub fn tests() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The top of the checkout.
pub fn root() -> &'static Path {
    tests().parent().expect("the tests crate lies in the workspace")
}

/// The programs of the private PostgreSQL tree, of the version `PG_MAJOR` names or the first there is;
/// those of `MCP_TEST_PG_BIN` where that is set.
pub fn postgres_bin() -> Result<PathBuf> {
    let bin = match std::env::var_os("MCP_TEST_PG_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let in_tree = |major: &str| root().join(format!(".pg/{major}/lib/postgresql/{major}/bin"));
            match std::env::var("PG_MAJOR") {
                Ok(major) => in_tree(&major),
                Err(_) => ["15", "16", "17", "18"]
                    .map(in_tree)
                    .into_iter()
                    .find(|bin| bin.join("postgres").exists())
                    .unwrap_or_else(|| in_tree("15")),
            }
        }
    };
    // The tree may be a link out of a place the user postgres cannot enter.
    let bin = bin.canonicalize().unwrap_or(bin);
    ensure!(
        bin.join("postgres").exists(),
        "no PostgreSQL under {}: run `scripts/install-extension`, which makes the private tree and puts the \
         extension into it, or name another with MCP_TEST_PG_BIN",
        bin.display()
    );
    Ok(bin)
}

/// The built frontend beside the running test binary, `MCP_TEST_FRONTEND` where that is set.
pub fn frontend() -> Result<PathBuf> {
    built("mcp-frontend", std::env::var_os("MCP_TEST_FRONTEND").map(PathBuf::from))
}

/// The built development identity provider, likewise.
pub fn dev_idp() -> Result<PathBuf> {
    built("mcp-dev-idp", None)
}

/// Where cargo puts what it builds: the directory above that of the profile.
pub fn target() -> Result<PathBuf> {
    let profile = profile()?;
    Ok(profile.parent().unwrap_or(&profile).to_owned())
}

fn built(package: &str, instead: Option<PathBuf>) -> Result<PathBuf> {
    let binary = match instead {
        Some(path) => path,
        None => profile()?.join(package),
    };
    ensure!(binary.exists(), "nothing at {}: run `cargo build -p {package}`", binary.display());
    Ok(binary)
}

/// The directory of the profile that this test binary was built with.
fn profile() -> Result<PathBuf> {
    let binary = std::env::current_exe()?;
    let directory = binary.parent().expect("a binary lies in a directory");
    let is_deps = directory.ends_with("deps");
    Ok(if is_deps { directory.parent().unwrap_or(directory) } else { directory }.to_owned())
}
