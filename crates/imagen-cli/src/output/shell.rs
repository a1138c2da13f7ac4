//! Arguments as a POSIX shell reads them, so that a printed command can be pasted.

/// The argument, in single quotes where it needs them.
pub(crate) fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+=@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gives_back_what_was_quoted() {
        for argument in
            ["plain", "", "a red apple", "it's", "$HOME `id` \"x\" \\ !", "line\nbreak", "~", "#", "{a,b}*?"]
        {
            let script = format!("printf %s {}", quote(argument));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), argument);
        }
    }
}
