//! The built plugin against a small server, a dead one, a slow one and none.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use serde_json::{Value, json};
    use shim::codec;
    use shim::deletion::{self, Deletion};
    use shim::fault::Printed;
    use shim::proto::{Request, Response};

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hs-shim-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
        fn socket(&self) -> PathBuf {
            self.0.join("run/cni.sock")
        }
        fn listener(&self) -> UnixListener {
            fs::create_dir_all(self.0.join("run")).unwrap();
            UnixListener::bind(self.socket()).unwrap()
        }
        fn config(&self) -> String {
            json!({"cniVersion": "1.0.0", "name": "hopscope", "type": "hopscope",
                "socket": self.socket()})
            .to_string()
        }
        fn deletions(&self) -> Vec<PathBuf> {
            let Ok(entries) = fs::read_dir(deletion::directory(&self.socket())) else {
                return Vec::new();
            };
            entries.map(|entry| entry.unwrap().path()).collect()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn call(verb: &str, more: &[(&str, &str)], stdin: &str) -> (i32, String, String) {
        let more: Vec<_> =
            more.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        call_with(verb, &more, stdin.as_bytes())
    }

    /// The same with bytes that need not be UTF-8.
    fn call_with(verb: &str, more: &[(&OsStr, &OsStr)], stdin: &[u8]) -> (i32, String, String) {
        let mut environment = BTreeMap::from([
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", "c1"),
            ("CNI_NETNS", "/run/netns/c1"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ])
        .into_iter()
        .map(|(name, value)| (OsStr::new(name), OsStr::new(value)))
        .collect::<BTreeMap<_, _>>();
        environment.extend(more.iter().copied());
        let mut child = Command::new(env!("CARGO_BIN_EXE_hopscope"))
            .env_clear()
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The plugin may end without reading: a broken pipe is no fault of the test.
        drop(child.stdin.take().unwrap().write_all(stdin));
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn code(output: &(i32, String, String)) -> u16 {
        assert_ne!(output.0, 0, "{output:?}");
        let printed: Printed = serde_json::from_str(&output.1).unwrap();
        printed.code
    }

    fn serve_one(listener: UnixListener, response: Response) -> JoinHandle<Request> {
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = codec::read(&mut stream).unwrap();
            codec::write(&mut stream, &response).unwrap();
            request
        })
    }

    #[test]
    fn a_request_goes_over_whole_and_the_answer_comes_out_as_it_is() {
        let place = Place::new("over");
        let response = Response { stdout: "out\n".into(), stderr: "err\n".into(), exit: 7 };
        let server = serve_one(place.listener(), response);
        let more = [("CNI_ARGS", "A=1;B=2"), ("HOME", "/root")];
        let output = call("ADD", &more, &place.config());
        assert_eq!(output, (7, "out\n".into(), "err\n".into()));
        let request = server.join().unwrap();
        assert_eq!(request.stdin, place.config());
        assert_eq!(request.environment["CNI_ARGS"], "A=1;B=2");
        assert_eq!(request.environment.len(), 6, "only CNI_ variables go over");
        assert_eq!(place.deletions(), Vec::<PathBuf>::new());
    }

    #[test]
    fn without_a_command_it_introduces_itself() {
        let (exit, stdout, stderr) = call("", &[], "");
        assert_eq!((exit, stdout.as_str()), (0, ""));
        assert!(stderr.contains("hopscope") && stderr.contains("1.1.0"), "{stderr}");
    }

    #[test]
    fn version_needs_no_daemon_and_no_input() {
        let (exit, stdout, stderr) = call("VERSION", &[], "no JSON at all");
        assert_eq!((exit, stderr.as_str()), (0, ""));
        let answer: Value = serde_json::from_str(&stdout).unwrap();
        let versions = json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
        assert_eq!(answer, json!({"cniVersion": "1.1.0", "supportedVersions": versions}));
    }

    #[test]
    fn each_verb_says_its_own_when_the_daemon_is_away() {
        let place = Place::new("away");
        for (verb, expected) in [("STATUS", 50), ("ADD", 11), ("CHECK", 11), ("GC", 11)] {
            let output = call(verb, &[], &place.config());
            assert_eq!(code(&output), expected, "{verb}");
            let printed: Printed = serde_json::from_str(&output.1).unwrap();
            assert_eq!(printed.cni_version, "1.0.0");
            assert!(printed.details.contains("cni.sock"), "{printed:?}");
        }
        assert_eq!(code(&call("LIST", &[], &place.config())), 4);
        assert!(!place.0.join("run").exists(), "only DEL may write");
    }

    #[test]
    fn a_deletion_is_recorded_once_and_privately() {
        let place = Place::new("record");
        for _again in 0..3 {
            let (exit, stdout, stderr) = call("DEL", &[("CNI_NETNS", "")], &place.config());
            assert_eq!((exit, stdout.as_str()), (0, ""), "{stderr}");
            assert!(stderr.contains("recorded"), "{stderr}");
        }
        let files = place.deletions();
        assert_eq!(files.len(), 1);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&files[0]), 0o600);
        assert_eq!(mode(files[0].parent().unwrap()), 0o700);
        let deletion: Deletion = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
        assert_eq!(deletion.request.environment["CNI_CONTAINERID"], "c1");
        assert_eq!(deletion.request.stdin, place.config());
    }

    #[test]
    fn no_path_is_built_from_bad_names() {
        let place = Place::new("names");
        for more in [("CNI_CONTAINERID", "../../etc"), ("CNI_IFNAME", "a/b"), ("CNI_IFNAME", "..")]
        {
            assert_eq!(code(&call("DEL", &[more], &place.config())), 4, "{more:?}");
        }
        assert!(!place.0.join("run").exists());
    }

    #[test]
    fn a_deletion_that_cannot_be_recorded_is_tried_again() {
        let place = Place::new("refuse");
        // The run directory's own parent is missing: the socket is mistyped, nobody will ever look
        // there.
        let config = json!({"cniVersion": "1.0.0", "name": "n", "type": "hopscope",
            "socket": place.0.join("a/b/cni.sock")});
        assert_eq!(code(&call("DEL", &[], &config.to_string())), 11);
        assert!(!place.0.join("a").exists());
        // A directory others may write to.
        let directory = deletion::directory(&place.socket());
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(code(&call("DEL", &[], &place.config())), 11);
        assert_eq!(place.deletions(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_daemon_that_dies_within_the_request_counts_as_away() {
        let place = Place::new("dies");
        let listener = place.listener();
        let server = std::thread::spawn(move || {
            for _call in 0..3 {
                let (mut stream, _) = listener.accept().unwrap();
                let _request: Request = codec::read(&mut stream).unwrap();
            }
        });
        assert_eq!(code(&call("ADD", &[], &place.config())), 11);
        let (exit, _, stderr) = call("DEL", &[], &place.config());
        assert_eq!(exit, 0, "{stderr}");
        assert_eq!(place.deletions().len(), 1);
        server.join().unwrap();
    }

    #[test]
    fn a_daemon_that_came_back_in_between_gets_the_deletion_itself() {
        let place = Place::new("between");
        let listener = place.listener();
        let server = std::thread::spawn(move || {
            drop(listener.accept().unwrap());
            let (mut stream, _) = listener.accept().unwrap();
            let request: Request = codec::read(&mut stream).unwrap();
            let response = Response { stdout: String::new(), stderr: String::new(), exit: 0 };
            codec::write(&mut stream, &response).unwrap();
            request
        });
        assert_eq!(call("DEL", &[], &place.config()), (0, String::new(), String::new()));
        assert_eq!(server.join().unwrap().environment["CNI_COMMAND"], "DEL");
        assert_eq!(place.deletions(), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_is_not_utf_8_is_named_and_the_daemon_never_hears_of_it() {
        let place = Place::new("bytes");
        let listener = place.listener();
        listener.set_nonblocking(true).unwrap();
        let bytes = OsStr::from_bytes(b"/run/netns/\xff\xfe");
        let config = place.config();
        for verb in ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"] {
            for name in ["CNI_NETNS", "CNI_ARGS", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_COMMAND"] {
                let output = call_with(verb, &[(OsStr::new(name), bytes)], config.as_bytes());
                assert_eq!(code(&output), 4, "{verb} {name}");
                let printed: Printed = serde_json::from_str(&output.1).unwrap();
                assert!(printed.msg.contains(name) && printed.msg.contains("UTF-8"), "{printed:?}");
            }
            if verb != "VERSION" {
                assert_eq!(code(&call_with(verb, &[], b"{\"name\": \"\xff\"}")), 6, "{verb}");
            }
        }
        listener.accept().unwrap_err();
        assert_eq!(place.deletions(), Vec::<PathBuf>::new());
        // What is not the plugin's to read may be anything, its name as well.
        let strange = [(OsStr::new("HOME"), bytes), (OsStr::from_bytes(b"CNI_\xff"), bytes)];
        let (exit, stdout, _) = call_with("VERSION", &strange, b"");
        assert!(exit == 0 && stdout.contains("supportedVersions"), "{stdout}");
    }

    #[test]
    fn it_never_hangs() {
        let place = Place::new("slow");
        let listener = place.listener();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // One byte of an answer, then silence: the plugin leaves, which ends this read.
            stream.write_all(&[1]).unwrap();
            drop(stream.read_to_end(&mut Vec::new()));
        });
        let begin = Instant::now();
        assert_eq!(code(&call("STATUS", &[], &place.config())), 50);
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
        server.join().unwrap();
    }

    #[test]
    fn bad_input_is_told_in_the_specifications_way() {
        for stdin in ["", "{", "[]", "7", "{\"cniVersion\":\"1.0.0\""] {
            assert_eq!(code(&call("ADD", &[], stdin)), 6, "{stdin:?}");
        }
        for socket in [json!(7), json!("relative.sock"), json!("")] {
            let config = json!({"cniVersion": "1.1.0", "name": "n", "socket": socket}).to_string();
            assert_eq!(code(&call("ADD", &[], &config)), 7, "{config}");
        }
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20));
        assert_eq!(code(&call("ADD", &[], &long)), 6);
    }
}
