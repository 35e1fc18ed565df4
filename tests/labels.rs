//! Labels from the command line to the snapshot and back: given by flag, by rule and by what a package is; taken as filters
//! and as groups.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::support::{Sandbox, assert_same_tree, noise, tree_fingerprint};

const ZIP: &[u8] = b"PK\x03\x04 and so on";
const GZIP: &[u8] = b"\x1f\x8b\x08\x00";

/// Packages of two repositories. The jar has the bytes of the large wheel.
fn repositories(sandbox: &Sandbox) {
    let mut large = ZIP.to_vec();
    large.extend(noise(1, 6_000_000));
    sandbox.write("srv/pypi/a/a-1.whl", [ZIP, &noise(2, 50_000)].concat());
    sandbox.write("srv/pypi/a/notes.txt", b"notes");
    sandbox.write("srv/pypi/large.whl", &large);
    sandbox.write("srv/maven/large.jar", &large);
    sandbox.write("srv/maven/broken.jar", b"no zip");
    sandbox.write("srv/crates/serde.crate", [GZIP, &noise(3, 1000)].concat());
    sandbox.write("srv/crates/empty.crate", b"");
    sandbox.write("srv/deb/bash.deb", b"!<arch>\ndebian-binary   ");
    sandbox.write("srv/rpm/bash.rpm", b"\xed\xab\xee\xdb\x03");
    std::fs::create_dir_all(sandbox.path("srv/none/at/all")).unwrap();
}

/// The labels of every entry that has some, by path.
fn labels(sandbox: &Sandbox, more: &[&str]) -> BTreeMap<String, String> {
    let listing = sandbox.json(["ls", "-R"].iter().chain(more));
    let of = |entry: &serde_json::Value| {
        let labels = entry.get("labels")?.as_object().unwrap();
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap())).collect();
        Some((entry["path"].as_str().unwrap().to_owned(), labels.join(" ")))
    };
    listing["entries"].as_array().unwrap().iter().filter_map(of).collect()
}

fn expected(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter().map(|(path, labels)| ((*path).to_owned(), (*labels).to_owned())).collect()
}

#[test]
fn flags_rules_and_detection_label_entries_and_the_more_particular_counts() {
    let sandbox = Sandbox::new();
    repositories(&sandbox);
    // As if they were unpacked, and older than the clock's tick: their times prove something.
    for path in crate::system::files_below(&sandbox.path("srv")) {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(60));
    sandbox.ok(["add", "--detect-types", "srv"]);
    let detected = expected(&[
        ("srv/crates/serde.crate", "type=crate"),
        ("srv/deb/bash.deb", "type=deb"),
        ("srv/maven/large.jar", "type=jar"),
        ("srv/pypi/a/a-1.whl", "type=wheel"),
        ("srv/pypi/large.whl", "type=wheel"),
        ("srv/rpm/bash.rpm", "type=rpm"),
    ]);
    assert_eq!(labels(&sandbox, &[]), detected);

    // Nothing is read again, and labels are those of this add.
    let rules = ["--label-rule", "srv/pypi/** repository=pypi", "--label-rule", "a-1.whl repository=first"];
    let more = ["--label-rule", "a-1.whl type=python wheel", "--label-rule", "*.jar repository=maven"];
    let again = sandbox.json(["add", "--detect-types", "srv"].iter().chain(&rules).chain(&more));
    assert_eq!(again["unchanged_files"], again["files"]);
    let mut with_rules = detected;
    for (path, of) in [
        ("srv/maven/large.jar", "repository=maven type=jar"),
        ("srv/maven/broken.jar", "repository=maven"),
        ("srv/pypi/a", "repository=pypi"),
        ("srv/pypi/a/a-1.whl", "repository=first type=python wheel"),
        ("srv/pypi/a/notes.txt", "repository=pypi"),
        ("srv/pypi/large.whl", "repository=pypi type=wheel"),
    ] {
        with_rules.insert(path.to_owned(), of.to_owned());
    }
    assert_eq!(labels(&sandbox, &[]), with_rules);

    sandbox.ok(["add", "--label", "kind=x", "--label", "kind=mirror", "--label-rule", "*.txt kind=text", "srv"]);
    let all = labels(&sandbox, &[]);
    assert_eq!(all.len(), sandbox.json(["ls", "-R"])["entries"].as_array().unwrap().len());
    assert_eq!((&*all["srv/pypi/a/notes.txt"], &*all["srv/none/at"]), ("kind=text", "kind=mirror"));
    assert!(all.values().all(|of| !of.contains("type=")));

    sandbox.ok(["add", "srv"]);
    assert_eq!(labels(&sandbox, &[]), expected(&[]));
    let keys: Vec<_> =
        sandbox.json(["snapshots"]).as_array().unwrap().iter().map(|s| s["label_keys"].clone()).collect();
    let [none, kind, two, one] = keys.as_slice() else { panic!("{keys:?}") };
    assert_eq!((none, kind), (&serde_json::Value::Null, &serde_json::json!(["kind"])));
    assert_eq!((two, one), (&serde_json::json!(["repository", "type"]), &serde_json::json!(["type"])));
    let shown = sandbox.ok(["snapshots"]);
    assert!(shown.lines().nth(2).unwrap().ends_with("srv (labels: repository, type)"), "{shown}");
    assert!(shown.lines().next().unwrap().ends_with("  srv"), "{shown}");
    assert_eq!(sandbox.json(["verify"])["whole"], true);
}

#[test]
fn a_labelled_file_of_any_size_and_kind_comes_back_as_it_was() {
    let sandbox = Sandbox::new();
    repositories(&sandbox);
    std::os::unix::fs::symlink("a-1.whl", sandbox.path("srv/pypi/a/link.whl")).unwrap();
    sandbox.ok(["add", "--detect-types", "--label", "any=größe = 3", "srv"]);
    sandbox.ok(["get", "srv", "-o", "copy"]);
    assert_same_tree(&sandbox.path("srv"), &sandbox.path("copy"));
    assert_eq!(labels(&sandbox, &["srv/pypi/a"])["srv/pypi/a/link.whl"], "any=größe = 3");
}

#[test]
fn a_filtered_listing_has_what_matches_and_what_leads_to_it() {
    let sandbox = Sandbox::new();
    repositories(&sandbox);
    sandbox.ok(["add", "--detect-types", "--label-rule", "srv/pypi/** repository=pypi", "srv"]);
    let ls = |arguments: &[&str]| sandbox.ok(["ls"].iter().chain(arguments));
    assert_eq!(ls(&["-R", "--label", "type=wheel"]), "srv/pypi/a/a-1.whl\nsrv/pypi/large.whl\n");
    assert_eq!(ls(&["-R", "--label", "type=deb", "--label", "type=rpm"]), "srv/deb/bash.deb\nsrv/rpm/bash.rpm\n");
    assert_eq!(ls(&["-R", "--label", "type=deb", "--label", "repository=pypi"]), "");
    assert_eq!(ls(&["-R", "--label", "repository=pypi", "srv/pypi/a"]).lines().count(), 3);
    assert_eq!(ls(&["--label", "type=wheel", "srv"]), "srv/pypi\n");
    assert_eq!(ls(&["--label", "type=wheel", "srv/pypi"]), "srv/pypi/a\nsrv/pypi/large.whl\n");
    assert_eq!(ls(&["--label", "type=wheel", "srv/maven"]), "");
    assert_eq!(ls(&["--label", "type=rpm"]), "srv\n");
    let long = ls(&["-l", "--label", "type=wheel", "srv/pypi/large.whl"]);
    assert!(long.ends_with("srv/pypi/large.whl  [repository=pypi type=wheel]\n"), "{long}");
    let long = ls(&["-l", "srv/maven/broken.jar"]);
    assert!(long.ends_with(" srv/maven/broken.jar\n"), "{long}");
}

#[test]
fn a_filtered_restore_makes_matching_files_and_the_directories_they_need() {
    let sandbox = Sandbox::new();
    repositories(&sandbox);
    sandbox.ok(["add", "--detect-types", "srv"]);
    sandbox.ok(["get", "srv", "--label", "type=wheel", "--label", "type=deb", "-o", "copy"]);
    let mut whole = tree_fingerprint(&sandbox.path("srv"));
    let wanted = ["", "pypi", "pypi/a", "pypi/a/a-1.whl", "pypi/large.whl", "deb", "deb/bash.deb"].map(PathBuf::from);
    whole.retain(|path, _| wanted.contains(path));
    // The large wheel and the jar are two files, not one with two names.
    assert_eq!(tree_fingerprint(&sandbox.path("copy")), whole);
    sandbox.ok(["get", "srv/pypi/large.whl", "--label", "type=wheel", "-o", "large"]);
    assert_eq!(sandbox.ok(["get", "srv/deb/bash.deb", "--label", "type=deb", "-o", "-"]), "!<arch>\ndebian-binary   ");

    for arguments in [
        &["get", "srv", "--label", "type=egg", "-o", "none"][..],
        &["get", "srv/maven", "--label", "type=wheel", "-o", "none"],
        &["get", "srv/maven/broken.jar", "--label", "type=jar", "-o", "none"],
        &["get", "srv/maven/broken.jar", "--label", "type=jar", "-o", "-"],
    ] {
        let error = sandbox.error(1, arguments);
        assert!(
            error.starts_with("error: a file with type=") && error.contains("has labels of type) not found"),
            "{error}"
        );
    }
    assert!(!sandbox.path("none").exists());
}

#[test]
fn groups_have_bytes_of_their_own_and_bytes_that_they_share() {
    let sandbox = Sandbox::new();
    repositories(&sandbox);
    sandbox.ok(["add", "--detect-types", "--label-rule", "srv/pypi/** repository=pypi", "srv"]);
    let stats = sandbox.json(["dedup-stats", "--by", "label:type"]);
    assert_eq!(stats["by"], serde_json::json!(["type"]));
    let groups = stats["groups"].as_array().unwrap();
    let group =
        |kind: Option<&str>| groups.iter().find(|group| group["labels"]["type"] == serde_json::json!(kind)).unwrap();
    let (wheel, jar, none) = (group(Some("wheel")), group(Some("jar")), group(None));
    assert_eq!((wheel["files"].as_u64(), jar["files"].as_u64(), none["files"].as_u64()), (Some(2), Some(1), Some(3)));
    let large = ZIP.len() as u64 + 6_000_000;
    assert_eq!(wheel["logical_bytes"], large + ZIP.len() as u64 + 50_000);
    // What the wheel and the jar have in common is counted in both, and belongs to neither alone.
    assert_eq!((&wheel["shared"], &jar["own"]["bytes"]), (&jar["shared"], &serde_json::json!(0)));
    assert_eq!(
        (&jar["shared"]["bytes"], &wheel["own"]["bytes"]),
        (&serde_json::json!(large), &serde_json::json!(ZIP.len() + 50_000))
    );
    assert!(jar["shared"]["stored_bytes"].as_u64().unwrap() >= large);
    let sum = |part: &str, field: &str| groups.iter().map(|g| g[part][field].as_u64().unwrap()).sum::<u64>();
    let all = sandbox.json(["dedup-stats"]);
    let unique = all["unique_bytes"].as_u64().unwrap();
    assert_eq!(sum("own", "bytes") + sum("shared", "bytes") / 2, unique);
    assert_eq!(sum("own", "chunks") + sum("shared", "chunks") / 2, all["chunks"].as_u64().unwrap());
    let logical: u64 = groups.iter().map(|g| g["logical_bytes"].as_u64().unwrap()).sum();
    assert_eq!(logical, all["logical_bytes"].as_u64().unwrap());

    let both = sandbox.json(["dedup-stats", "--by", "label:type", "--by", "label:repository"]);
    let of = |g: &serde_json::Value| format!("{} {}", g["labels"]["repository"], g["labels"]["type"]);
    let found: Vec<String> = both["groups"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(
        found.contains(&"\"pypi\" \"wheel\"".to_owned()) && found.contains(&"\"pypi\" null".to_owned()),
        "{found:?}"
    );
    let text = sandbox.ok(["dedup-stats", "--by", "label:type"]);
    assert!(text.lines().any(|line| line.ends_with("type=wheel")), "{text}");
    assert!(text.lines().any(|line| line.ends_with("type (none)")), "{text}");
}

#[test]
fn what_is_no_label_or_rule_is_wrong_usage() {
    let sandbox = Sandbox::new();
    sandbox.write("a", b"a");
    sandbox.ok(["add", "a"]);
    let long = format!("a={}", "x".repeat(1025));
    let cases: &[(&[&str], &str)] = &[
        (&["add", "--label", "wheel", "a"], "has no `=`"),
        (&["add", "--label", "=wheel", "a"], "has no key"),
        (&["add", "--label", "a=b\nc", "a"], "control characters"),
        (&["add", "--label", &long, "a"], "at most 1024 bytes"),
        (&["add", "--label-rule", "*.whl", "a"], "a rule is written"),
        (&["add", "--label-rule", "[a type=wheel", "a"], "is not a glob"),
        (&["add", "--label-rule", "*.whl wheel", "a"], "has no `=`"),
        (&["ls", "--label", "wheel"], "has no `=`"),
        (&["get", "a", "--label", "wheel"], "has no `=`"),
        (&["dedup-stats", "--by", "type"], "label:KEY"),
        (&["dedup-stats", "--by", "label:"], "has no key"),
    ];
    for (arguments, why) in cases {
        let error = sandbox.error(2, *arguments);
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
    let many: Vec<String> = (0..65).flat_map(|n| ["--label".to_owned(), format!("k{n}=v")]).collect();
    let error = sandbox.error(2, ["add", "a"].iter().map(|a| (*a).to_owned()).chain(many));
    assert!(error.contains("labels of 65 keys; a snapshot has 64 at most"), "{error}");
    assert_eq!(sandbox.json(["snapshots"]).as_array().unwrap().len(), 1);
}

#[test]
fn packages_that_are_archives_are_detected_and_members_have_their_labels() {
    let sandbox = Sandbox::new();
    sandbox.write("package/package.json", b"{}");
    sandbox.write("package/data", noise(1, 100));
    let pack = |to: &str| {
        std::fs::create_dir_all(sandbox.path(to).parent().unwrap()).unwrap();
        let tar =
            std::process::Command::new("tar").args(["-czf", to, "package"]).current_dir(sandbox.path("")).status();
        assert!(tar.unwrap().success());
    };
    pack("srv/small-1.0.0.tgz");
    // One that is read in parts.
    sandbox.write("package/data", noise(2, 6_000_000));
    pack("srv/large-1.0.0.tgz");
    sandbox.write("srv/other.txt", b"other");
    let expected = expected(&[("srv/large-1.0.0.tgz", "type=npm"), ("srv/small-1.0.0.tgz", "type=npm")]);
    // What was kept as it is stays so while it is unchanged; read again, they are archives.
    for more in [&["--no-tar"][..], &[], &["--reread"]] {
        sandbox.ok(["add", "--detect-types", "srv"].iter().chain(more));
        assert_eq!(labels(&sandbox, &[]), expected, "{more:?}");
    }
    let members = labels(&sandbox, &["--label", "type=npm", "srv/large-1.0.0.tgz/"]);
    assert_eq!(members["srv/large-1.0.0.tgz/package/data"], "type=npm");
    let get = ["get", "srv/large-1.0.0.tgz/package/data", "--label"];
    sandbox.ok(get.iter().chain(&["type=npm", "-o", "data"]));
    assert!(std::fs::read(sandbox.path("data")).unwrap() == noise(2, 6_000_000));
    let error = sandbox.error(1, get.iter().chain(&["type=wheel", "-o", "none"]));
    assert!(error.contains("a file with type=wheel"), "{error}");
    sandbox.ok(["export", "--tar", "srv", "--label", "type=npm", "-o", "out.tar"]);
    let listed =
        std::process::Command::new("tar").args(["-tf", "out.tar"]).current_dir(sandbox.path("")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<&str> = listed.lines().map(|line| line.trim_end_matches('/')).collect();
    assert_eq!(names, ["srv", "srv/large-1.0.0.tgz", "srv/small-1.0.0.tgz"]);
}
