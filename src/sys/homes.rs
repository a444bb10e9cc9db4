//! The accounts' homes on a real disk, and the operator's link to one of them (port `Homes`).
//! Takes the configuration; returns each home's faults, and creates missing links and directories. Never replaces,
//! moves or removes anything except the operator's link, and that only while it is a link.

mod home;
mod login;
mod look;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;

use self::home::Home;
use self::look::{Fault, Leads, Mend};
use crate::{
    config::{self, Config},
    model::{
        homes::{HomeFault, HomeFaults, HomesReport},
        ids::AccountName,
    },
    ports::Homes,
};

#[derive(Debug)]
struct Inner {
    homes: Vec<Home>,
    /// The operator's link, where a swap may turn it.
    link: Option<PathBuf>,
}

/// The homes of a configuration.
#[derive(Debug, Clone)]
pub struct AccountHomes(Arc<Inner>);

impl AccountHomes {
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let (link, linked) = config.operators_link().unzip();
        let linked = linked.unwrap_or_default();
        let home = |(n, account): (usize, &config::Account)| Home {
            account: account.name.clone(),
            key: format!("accounts[{n}].home"),
            kind: config.kind_of(account).cloned(),
            path: account.home.clone(),
            links: config.shared_links(account),
            has_stand_in: config.has_stand_in(account),
            linked: linked.iter().any(|other| other.name == account.name),
        };
        let homes = config.accounts.iter().enumerate().map(home).collect();
        Self(Arc::new(Inner { homes, link: link.map(Path::to_owned) }))
    }

    /// Everything that keeps accounts from taking each other's place, of all of them at once.
    #[must_use]
    pub fn faults(&self) -> Vec<HomeFault> {
        let homes = self.0.homes.iter().filter(|home| home.has_stand_in);
        let faults = homes.flat_map(|home| look::home(home).into_iter().map(|fault| fault.of(&home.key)));
        faults.chain(self.0.link_fault().map(|fault| fault.of(LINK))).collect()
    }

    /// What is wrong with any account's home. With `fix`, what is only missing is made first.
    #[must_use]
    pub fn report(&self, fix: bool) -> HomesReport {
        let mut report = HomesReport { notes: self.shared_logins(), ..HomesReport::default() };
        let homes = self.0.homes.iter().flat_map(|home| look::home(home).into_iter().map(|fault| (&*home.key, fault)));
        for (key, mut fault) in homes.chain(self.0.link_fault().map(|fault| (LINK, fault))) {
            match fault.mend.as_ref().filter(|_| fix).map(make) {
                Some(Ok(made)) => report.made.extend(made),
                Some(Err(error)) => {
                    fault.message = format!("{}; making it failed: {error}", fault.message);
                    report.faults.push(fault.of(key));
                }
                None => report.faults.push(fault.of(key)),
            }
        }
        report
    }

    /// What to say of accounts whose homes hold one login.
    #[must_use]
    pub fn shared_logins(&self) -> Vec<String> {
        login::shared(&self.0.homes)
    }

    /// What to say when the operator's link leads elsewhere than to the home of the active account.
    #[must_use]
    pub fn astray(&self, active: &[AccountName]) -> Option<String> {
        let link = self.0.link.as_deref()?;
        let home = self.0.homes.iter().find(|home| home.linked && active.contains(&home.account))?;
        let leads = match look::leads(link, &home.path) {
            Leads::There => return None,
            Leads::Elsewhere(to) => format!("leads to {}", to.display()),
            Leads::Nothing => "is gone".to_owned(),
            Leads::Taken(what) => format!("is {what}"),
            Leads::Unknown(why) => format!("can't be looked at ({why})"),
        };
        let (shown, account, home) = (link.display(), &home.account, home.path.display());
        Some(format!(
            "{shown} {leads}, but the active account is {account}: a `claude` that you start yourself uses another one; \
             `ln -sfn {home} {shown}` puts it right, the next swap does too"
        ))
    }

    /// The account to whose home the operator's link leads.
    #[must_use]
    pub fn linked(&self) -> Option<AccountName> {
        let link = self.0.link.as_deref()?;
        let mut homes = self.0.homes.iter().filter(|home| home.linked);
        Some(homes.find(|home| look::leads(link, &home.path) == Leads::There)?.account.clone())
    }
}

/// The key of the operator's link.
const LINK: &str = "claude_link";

impl Inner {
    fn of(&self, account: &AccountName) -> io::Result<&Home> {
        let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("the account {account} has no home"));
        self.homes.iter().find(|home| home.account == *account).ok_or_else(unknown)
    }

    fn link_fault(&self) -> Option<Fault> {
        let homes: Vec<&Home> = self.homes.iter().filter(|home| home.linked).collect();
        look::link(self.link.as_deref()?, &homes)
    }

    fn flip(&self, to: &AccountName) -> io::Result<()> {
        let home = self.of(to)?;
        let Some(link) = self.link.as_deref().filter(|_| home.linked) else { return Ok(()) };
        match self.link_fault() {
            Some(Fault { mend: None, message, remedy }) => {
                Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{message}; {remedy}")))
            }
            Some(Fault { mend: Some(_), .. }) | None => turn(link, &home.path).map_err(|error| {
                let (shown, to) = (link.display(), home.path.display());
                let text = format!("{shown} can't be turned to {to}: {error}; its directory must be there and ours");
                io::Error::new(error.kind(), text)
            }),
        }
    }

    fn ensure(&self, account: &AccountName) -> Result<(), HomeFaults> {
        let home = self.of(account).map_err(|error| HomeFaults(vec![error.to_string()]))?;
        let faults = look::home(home);
        let told = |fault: &Fault| format!("{}; {}", fault.message, fault.remedy);
        if faults.iter().any(|fault| fault.mend.is_none()) {
            return Err(HomeFaults(faults.iter().map(told).collect()));
        }
        let failed =
            |fault: &Fault| Some(format!("{}; making it failed: {}", fault.message, make(fault.mend.as_ref()?).err()?));
        let failed: Vec<String> = faults.iter().filter_map(failed).collect();
        if failed.is_empty() { Ok(()) } else { Err(HomeFaults(failed)) }
    }

    /// When the login file changed, which every login and every renewed token does.
    fn logged_in(&self, account: &AccountName) -> Option<Timestamp> {
        let home = self.of(account).ok()?;
        let modified = fs::metadata(home.path.join(home.rules()?.login.file.as_ref()?)).ok()?.modified().ok()?;
        Timestamp::try_from(modified).ok()
    }
}

/// Makes what is missing and answers what was made.
fn make(mend: &Mend) -> io::Result<Vec<String>> {
    let mut made = Vec::new();
    if let Some(dir) = &mend.dir {
        // Two homes may miss the same one.
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            sync_around(dir)?;
            made.push(dir.display().to_string());
        }
    }
    if let Some((path, target)) = &mend.link {
        symlink(target, path)?;
        sync_around(path)?;
        made.push(format!("{} -> {}", path.display(), target.display()));
    }
    Ok(made)
}

/// Turns a link, or makes it: there is no moment without it.
fn turn(link: &Path, to: &Path) -> io::Result<()> {
    if look::leads(link, to) == Leads::There {
        return Ok(());
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(link.file_name().unwrap_or_default());
    name.push(".claude-failover");
    let beside = link.with_file_name(name);
    // Left by a turn that was cut short.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    symlink(to, &beside)?;
    fs::rename(&beside, link)?;
    sync_around(link)
}

fn sync_around(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[async_trait]
impl Homes for AccountHomes {
    async fn flip(&self, to: &AccountName) -> io::Result<()> {
        let (homes, to) = (self.0.clone(), to.clone());
        tokio::task::spawn_blocking(move || homes.flip(&to)).await?
    }

    async fn leads_to(&self, account: &AccountName) -> bool {
        let (homes, account) = (self.clone(), account.clone());
        tokio::task::spawn_blocking(move || homes.linked() == Some(account)).await.unwrap_or(false)
    }

    async fn ensure(&self, account: &AccountName) -> Result<(), HomeFaults> {
        let (homes, account) = (self.0.clone(), account.clone());
        let ensured = tokio::task::spawn_blocking(move || homes.ensure(&account)).await;
        ensured.unwrap_or_else(|error| Err(HomeFaults(vec![error.to_string()])))
    }

    async fn logged_in(&self, account: &AccountName) -> Option<Timestamp> {
        let (homes, account) = (self.0.clone(), account.clone());
        tokio::task::spawn_blocking(move || homes.logged_in(&account)).await.ok()?
    }
}
