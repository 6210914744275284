//! `hopctl extcap install`: the link by which Wireshark finds this program.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::NAME;
use crate::cli::output::{Output, Tone};
use crate::cli::{Answer, Failure, Outcome, args};

/// Links this program where Wireshark looks.
///
/// # Errors
/// When a directory or a link cannot be made, or something else stands there.
pub(in super::super) fn install(args: &args::ExtcapInstall, output: &Output) -> Outcome {
    let program = env::current_exe()?;
    let dirs = match &args.dir {
        Some(dir) => vec![dir.clone()],
        None => personal(&|name| env::var_os(name).map(PathBuf::from))?,
    };
    for dir in dirs {
        let link = dir.join(NAME);
        link_to(&program, &link).map_err(|message| {
            let hint = "another directory is named by --dir, see Wireshark's About, Folders";
            Failure::Usage(message, hint.to_owned())
        })?;
        output.line(Tone::Plain, &format!("linked {} -> {}", link.display(), program.display()))?;
    }
    output.notice("Wireshark shows the interfaces from its next start on; rm takes the links away");
    Ok(Answer::Yes)
}

/// The directories in which a user's own programs are looked for: `~/.local/lib` by Wireshark
/// since 4.2, the configuration by those before. Each release looks into one of them only, so both
/// get a link, and neither a downgrade nor an upgrade loses it.
fn personal(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    let home = variable("HOME").filter(|home| home.is_absolute()).ok_or_else(|| {
        let message = "HOME is not set, so there is no directory of your own".to_owned();
        Failure::Usage(message, "name a directory by --dir".to_owned())
    })?;
    let config = variable("XDG_CONFIG_HOME").filter(|config| config.is_absolute());
    let config = config.unwrap_or_else(|| home.join(".config"));
    let dirs = [home.join(".local/lib"), config];
    Ok(dirs.map(|dir| dir.join("wireshark/extcap")).into())
}

/// Makes a link or leads one of before to where the program is now; what is no link is not ours.
fn link_to(program: &Path, link: &Path) -> Result<(), String> {
    let told = |what: &str, path: &Path, error: io::Error| {
        format!("{what} {} cannot be made: {error}", path.display())
    };
    if let Some(dir) = link.parent() {
        fs::create_dir_all(dir).map_err(|error| told("the directory", dir, error))?;
    }
    if let Ok(there) = fs::symlink_metadata(link) {
        if !there.is_symlink() {
            return Err(format!("{} is there and no link; remove it first", link.display()));
        }
        fs::remove_file(link).map_err(|error| told("the link", link, error))?;
    }
    symlink(program, link).map_err(|error| told("the link", link, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_are_those_of_old_and_new_releases() {
        let of = |config: Option<&'static str>| {
            let variable = move |name: &str| match name {
                "HOME" => Some(PathBuf::from("/u")),
                _ => config.map(PathBuf::from),
            };
            personal(&variable).ok().unwrap()
        };
        let new = PathBuf::from("/u/.local/lib/wireshark/extcap");
        assert_eq!(of(None), [new.clone(), "/u/.config/wireshark/extcap".into()]);
        assert_eq!(of(Some("/c")), [new.clone(), "/c/wireshark/extcap".into()]);
        assert_eq!(of(Some("relative")), of(None));
        let Err(Failure::Usage(message, _)) = personal(&|_| None) else { panic!("no home") };
        assert!(message.contains("HOME"), "{message}");
    }

    #[test]
    fn links_are_made_and_moved_and_nothing_else_is_touched() {
        let name = format!("hopscope-extcap-{}", std::process::id());
        let dir = env::temp_dir().join(name);
        let link = dir.join("made").join(NAME);
        for program in ["/bin/true", "/bin/false"] {
            link_to(Path::new(program), &link).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(program));
        }
        fs::remove_file(&link).unwrap();
        fs::write(&link, "another's").unwrap();
        let wrong = link_to(Path::new("/bin/true"), &link).unwrap_err();
        assert!(wrong.contains("no link"), "{wrong}");
        assert_eq!(fs::read_to_string(&link).unwrap(), "another's");
        fs::remove_dir_all(dir).unwrap();
    }
}
