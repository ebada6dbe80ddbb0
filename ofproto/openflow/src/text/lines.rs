//! Files of one thing per line, and the word that may stand first in a line.

use super::TextError;

/// Reads every line that has more than a comment (from `#` on). `name` stands in errors.
///
/// # Errors
/// The first line's that cannot be read, with its number.
pub(crate) fn parse<T>(text: &str, name: &str, line: impl FnMut(&str) -> Result<T, TextError>) -> Result<Vec<T>, TextError> {
    each(text, name, line).collect()
}

/// The same, a line at a time.
pub(crate) fn each<T>(
    text: &str,
    name: &str,
    mut line: impl FnMut(&str) -> Result<T, TextError>,
) -> impl Iterator<Item = Result<T, TextError>> {
    let contents = text.lines().map(|whole| whole.split_once('#').map_or(whole, |(content, _)| content)).enumerate();
    contents.filter(|(_, content)| !content.trim_matches([' ', '\t', '\r']).is_empty()).map(move |(n, content)| {
        line(content).map_err(|error| TextError::Line { file: name.to_owned(), line: n + 1, error: Box::new(error) })
    })
}

/// The command that stands first in a line, perhaps abbreviated, and the rest of the line; `None` when there is none.
pub(crate) fn first_word<'a, T: Copy>(text: &'a str, commands: &[(&str, T)]) -> Option<(T, &'a str)> {
    let text = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let end = text.find([',', ' ', '\t', '\r', '\n']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    commands.iter().find(|(name, _)| name.starts_with(word)).map(|(_, command)| (*command, rest))
}
