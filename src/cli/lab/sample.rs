//! The sample cluster: embedded manifests, written to a directory where they can be edited while
//! they are served.

use super::scratch::ScratchDirectory;

/// File names and contents. Their order is the order of the guide's examples.
const FILES: [(&str, &str); 6] = [
    ("10-payroll.yaml", include_str!("sample/10-payroll.yaml")),
    ("20-default.yaml", include_str!("sample/20-default.yaml")),
    ("30-myapp.yaml", include_str!("sample/30-myapp.yaml")),
    ("40-ingress.yaml", include_str!("sample/40-ingress.yaml")),
    ("50-shop.yaml", include_str!("sample/50-shop.yaml")),
    (
        "90-kube-system.yaml",
        include_str!("sample/90-kube-system.yaml"),
    ),
];

/// Writes the sample's files.
pub fn write_files(scratch: &mut ScratchDirectory) -> anyhow::Result<()> {
    for (name, text) in FILES {
        scratch.write(name, text)?;
    }
    Ok(())
}
