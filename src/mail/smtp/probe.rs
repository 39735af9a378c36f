//! A look at the server without sending: connection, TLS, AUTH and EHLO, then QUIT.

use super::SmtpServer;
use super::line::{Farewell, Line};

impl SmtpServer {
    /// Says what the server offers of what matters here.
    ///
    /// # Errors
    /// Why the server cannot be used.
    pub async fn probe(&self) -> Result<String, String> {
        let line = Line::connect(&self.server).await?;
        let offers = line.offers;
        if let Farewell::OutOfStep(text) = line.quit().await {
            return Err(format!("{} answered QUIT with {text}: its replies are out of step", self.server.name));
        }
        let how = match (self.server.settings.tls, &self.server.credentials) {
            (crate::settings::Tls::None, None) => "in plain text, without AUTH",
            (crate::settings::Tls::None, Some(_)) => "in plain text, AUTH accepted",
            (_, None) => "TLS, without AUTH",
            (_, Some(_)) => "TLS, AUTH accepted",
        };
        let mut said = format!("{}: {how}", self.server.name);
        for (has, name) in
            [(offers.pipelining, "PIPELINING"), (offers.size.is_some(), "SIZE"), (offers.smtputf8, "SMTPUTF8")]
        {
            if has {
                said.push_str(", ");
                said.push_str(name);
            }
        }
        Ok(said)
    }
}
