//! I/O: the test image, made from nothing but the project's own binary. No registry is asked.

use std::path::Path;
use std::process::Command;

use bollard::Docker;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptions};
use futures_util::TryStreamExt;
use hyper::body::Bytes;

const NAME: &str = "foresail-test";

/// Imports the image and gives its name.
pub async fn import(engine: &Docker) -> String {
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
    NAME.to_owned()
}

/// A tar archive of the binary as `/foresail`. It is alone in the image, so it must be static.
fn archive() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("temporary folder");
    copy_binary(folder.path());
    let mut tar = Command::new("tar");
    tar.args(["--create", "--file=-", "-C"]).arg(folder.path()).arg("foresail");
    let tar = tar.output().expect("tar runs");
    assert!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}

/// Puts the program as `foresail` into a folder.
pub fn copy_binary(folder: &Path) {
    let binary = folder.join("foresail");
    std::fs::copy(env!("CARGO_BIN_EXE_foresail"), &binary).expect("copy of the binary");
    // Debug information makes most of its size; without `strip` it only takes longer.
    let _ = Command::new("strip").arg(&binary).status();
}
