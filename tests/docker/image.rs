//! I/O: the test image, made from nothing but the project's own binary. No registry is asked.

use std::path::Path;
use std::process::Command;

use bollard::Docker;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions};
use futures_util::TryStreamExt;
use hyper::body::Bytes;
use tokio::sync::OnceCell;

const NAME: &str = "foresail-test";

/// Imports the image once for this test process and gives its name.
pub async fn import(engine: &Docker) -> String {
    static IMPORTED: OnceCell<()> = OnceCell::const_new();
    let import = async || {
        let before = engine.inspect_image(NAME).await.ok().and_then(|image| image.id);
        let options = CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo(NAME)
            .tag("latest")
            .changes(vec![r#"ENTRYPOINT ["/foresail"]"#.to_owned()])
            .build();
        let body = bollard::body_full(Bytes::from(archive()));
        let import = engine.create_image(Some(options), Some(body), None);
        import.try_collect::<Vec<_>>().await.expect("import of the image");
        if let Some(before) = before {
            // The image of an earlier run; another run may still use it.
            let _ = engine.remove_image(&before, None::<RemoveImageOptions>, None).await;
        }
    };
    IMPORTED.get_or_init(import).await;
    NAME.to_owned()
}

/// A tar archive of the binary as `/foresail`, with the libraries that it names if it is not
/// static.
fn archive() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let binary = folder.path().join("foresail");
    std::fs::copy(env!("CARGO_BIN_EXE_foresail"), &binary).expect("copy of the binary");
    // Debug information makes most of its size; without `strip` it only takes longer.
    let _ = Command::new("strip").arg(&binary).status();

    for library in libraries(&binary) {
        let copy = folder.path().join(library.trim_start_matches('/'));
        std::fs::create_dir_all(copy.parent().expect("a folder")).expect("create the folder");
        std::fs::copy(&library, copy).expect("copy of a library");
    }
    let mut tar = Command::new("tar");
    tar.args(["--create", "--file=-", "-C"]).arg(folder.path()).arg(".");
    let tar = tar.output().expect("tar runs");
    assert!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}

/// Paths of the libraries that the binary names.
fn libraries(binary: &Path) -> Vec<String> {
    // `ldd` fails for a static binary, and says so on standard error.
    let listing = Command::new("ldd").arg(binary).output().expect("ldd runs");
    let listing = String::from_utf8(listing.stdout).expect("ldd prints text");
    let paths = listing.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(str::to_owned).collect()
}
