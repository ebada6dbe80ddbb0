//! `ferrule completion bash`: a script that teaches a shell the commands of all tools, made of their own tables.

use crate::console::Io;
use crate::fault::Fault;
use crate::{APPLETS, Applet};

/// Prints the script.
///
/// # Errors
/// Another shell was asked for.
pub fn run(io: &mut Io<'_>, words: &[String]) -> Result<u8, Fault> {
    match words {
        [shell] if shell == "bash" => Ok(io.out.write_all(script().as_bytes()).map(|()| 0)?),
        _ => Err(Fault::say("usage: ferrule completion bash")),
    }
}

fn words_of(applet: &Applet) -> String {
    (applet.commands)().join(" ")
}

fn script() -> String {
    let mut out = String::from(
        "# bash completion for ferrule and the tools it stands for; made by `ferrule completion bash`\n\
         _ferrule_commands() {\n    case $1 in\n",
    );
    for applet in APPLETS {
        out.push_str(&format!("    {}|{}) echo '{}' ;;\n", applet.name, applet.link, words_of(applet)));
    }
    let tools: Vec<&str> = APPLETS.iter().map(|a| a.name).collect();
    out.push_str(&format!("    *) echo '{}' ;;\n    esac\n}}\n", tools.join(" ")));
    out.push_str(
        r#"_ferrule() {
    local word=${COMP_WORDS[COMP_CWORD]} tool=${COMP_WORDS[0]##*/} first=1 i names
    if [ "$tool" = ferrule ] && [ "$COMP_CWORD" -gt 1 ]; then tool=${COMP_WORDS[1]}; first=2; fi
    # A command, unless one stands there already; `--` begins another one for vsctl.
    for ((i = COMP_CWORD - 1; i >= first; i--)); do
        case ${COMP_WORDS[i]} in
        --) break ;;
        -*) ;;
        *) return ;;
        esac
    done
    names=$(_ferrule_commands "$tool")
    case $tool in
    appctl|ovs-appctl) names=$(ferrule appctl list-commands 2>/dev/null | awk 'NR > 1 { print $1 }') ;;
    esac
    COMPREPLY=($(compgen -W "$names" -- "$word"))
}
"#,
    );
    let links: Vec<&str> = APPLETS.iter().map(|a| a.link).collect();
    out.push_str(&format!("complete -o default -F _ferrule ferrule {}\n", links.join(" ")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_its_commands_in_it() {
        let script = script();
        for word in ["vsctl|ovs-vsctl", "add-br", "dump-flows", "list-dbs", "show-log", "dump-conntrack", "complete -o default"] {
            assert!(script.contains(word), "{word}");
        }
    }

    #[test]
    fn bash_takes_it_and_completes_by_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ferrule");
        std::fs::write(&file, script()).unwrap();
        let lines = format!(
            ". {}; COMP_WORDS=(ovs-vsctl --no-wait add-p); COMP_CWORD=2; _ferrule; echo ${{COMPREPLY[@]}}; \
             COMP_WORDS=(ferrule ovsdb-tool show-); COMP_CWORD=2; _ferrule; echo ${{COMPREPLY[@]}}",
            file.display()
        );
        let out = std::process::Command::new("bash").arg("-c").arg(lines).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "add-port\nshow-log\n", "{}", String::from_utf8_lossy(&out.stderr));
    }
}
