//! The terminal that `ferrule top` draws on, by ratatui: the report under a title line, redrawn in place; `q`, Escape and Ctrl-C end it.

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;
use std::io;
use std::time::Duration;

/// A terminal in its own mode; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Screen(DefaultTerminal);

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    /// Shows a report.
    pub(super) fn draw(&mut self, title: &str, text: &str) -> io::Result<()> {
        let lines: Vec<Line<'_>> = text.lines().map(styled).collect();
        self.0.draw(|frame| {
            let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(frame.area());
            frame.render_widget(Paragraph::new(title).style(Style::new().add_modifier(Modifier::REVERSED)), head);
            frame.render_widget(Paragraph::new(lines), body);
        })?;
        Ok(())
    }

    /// Whether the user wants to leave; looks at the keys that were pressed, without waiting.
    pub(super) fn is_left(&self) -> io::Result<bool> {
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()? {
                let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Bridges, datapaths and headings stand out.
fn styled(line: &str) -> Line<'_> {
    let bold = ["Bridge ", "Datapath ", "Slow path"].iter().any(|word| line.starts_with(word));
    let heading = line.trim_start().starts_with("PORT") || line.ends_with("  FLOW");
    let style = match (bold, heading) {
        (true, _) => Style::new().add_modifier(Modifier::BOLD),
        (false, true) => Style::new().add_modifier(Modifier::DIM),
        (false, false) => Style::new(),
    };
    Line::styled(line, style)
}
