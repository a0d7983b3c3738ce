//! The `[Install]` section of a unit file, as far as a generator has to act on it: systemd itself
//! ignores that section, so what `systemctl enable` would do is done here.

use crate::name::UnitName;

/// What `[Install]` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Install {
    pub wanted_by: Vec<UnitName>,
    pub alias: Vec<UnitName>,
    /// Words that are no unit names.
    pub refused: Vec<String>,
}

impl Install {
    /// Reads a unit file's text (systemd.syntax(7)). Our own units never continue a line, so a line is a line.
    pub(super) fn parse(text: &str) -> Self {
        let mut install = Self::default();
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == "[Install]";
            } else if inside
                && !line.starts_with(['#', ';'])
                && let Some((key, value)) = line.split_once('=')
            {
                install.assign(key.trim_end(), value);
            }
        }
        install
    }

    fn assign(&mut self, key: &str, value: &str) {
        let list = match key {
            "WantedBy" => &mut self.wanted_by,
            "Alias" => &mut self.alias,
            _ => return,
        };
        for word in value.split_whitespace() {
            match UnitName::parse(word) {
                Ok(name) => list.push(name),
                Err(_) => self.refused.push(word.to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_install_section_counts() {
        let install = Install::parse(
            "[Unit]\nWantedBy=a.target\n[Install]\n# WantedBy=b.target\nWantedBy = c.target d.target\n\
             Alias=e.service\nAlso=x.service\n[Service]\nWantedBy=f.target\n",
        );
        let names: Vec<_> = install.wanted_by.iter().map(UnitName::as_str).collect();
        assert_eq!(names, ["c.target", "d.target"]);
        assert_eq!(install.alias, [UnitName::parse("e.service").expect("valid")]);
    }

    #[test]
    fn a_word_that_would_leave_the_directory_is_refused() {
        let install = Install::parse("[Install]\nWantedBy=../../etc/x.target multi-user.target\n");
        assert_eq!(install.refused, ["../../etc/x.target"]);
        assert_eq!(install.wanted_by.len(), 1);
    }
}
