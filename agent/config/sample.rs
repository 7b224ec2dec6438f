//! The configuration that `understudy config --doc` prints: every key with what it means
//! and its default. A test holds it against what is read.

/// A commented configuration that says what the defaults are.
pub const SAMPLE: &str = "\
# understudy.toml: what is true of this board alone. Everything is optional.
# What holds for the whole group is set once, on any board: `understudy set`.

# What people call this board; its host name otherwise.
#name = \"pump-house\"

# How much is logged: error, warn, info, debug or trace.
#log_level = \"info\"

# What this board can do that others may not: a duty that needs it (`understudy duty
# rules NAME --needs lte`) goes to no board without.
#capabilities = [\"relay\"]

# How boards reach each other: by \"udp\", by \"mqtt\" through the brokers below, or by
# \"both\": MQTT then brings what UDP does not.
#transport = \"udp\"

[mqtt]
# What the topics of the boards begin with.
#topic_prefix = \"understudy\"

# A broker, by mqtt://HOST:PORT, or mqtts:// where it is encrypted; up to four, and
# everything is posted to all. It need not be trusted: what it carries is sealed. `ca` is a
# file of certificates that vouch for it, if it is not known to the system.
#[[broker]]
#url = \"mqtts://192.168.1.9:8883\"
#user = \"sensors\"
#password = \"...\"
#ca = \"/etc/understudy/ca.pem\"
# This one is not for the boards' datagrams, but for what stands below.
#boards = false

# Sensors' messages at a broker become readings. Of the boards that have this the one that
# holds the duty subscribes (`understudy duty add mqtt-in` makes that, once for the group).
# There can be several; the broker is the first above unless named by its url.
#[[subscribe]]
#topic = \"zigbee2mqtt/+\"
#broker = \"mqtts://192.168.1.9:8883\"
#duty = \"mqtt-in\"
# Paths into JSON: a, a.b, a.0 of an array, a.* for all numbers and booleans below, or *.
# Without any the payload is one plain value.
#values = [\"temperature\", \"humidity\"]
# The sensor's name: {topic}, {path}, and {1}, {2} for what the wildcards stand for.
# \"{topic}/{path}\" if there are values, else \"{topic}\".
#sensor = \"{1}/{path}\"
# The path to the message's own time: RFC 3339 with its zone, or a number of \"s\", \"ms\",
# \"us\" or \"ns\". Without it, or where it is none, a reading has the time it came at.
#time = \"last_seen\"
#precision = \"ms\"
# With 1 the broker keeps messages until they are stored, whichever board holds the duty.
#qos = 1

# What the group tells the world at a broker, the first above unless another is named by its
# url: of the boards with such a part the one that has the duty does it (`understudy duty add
# mqtt-out` makes that, once for the group). In topics {group}, {tag} (of the group, where
# names are not enough), {sensor} and {duty} stand for those; readings or duties that are
# \"\" are not told.
#[publish]
#broker = \"mqtts://192.168.1.9:8883\"
#duty = \"mqtt-out\"
#readings = \"understudy/{group}/reading/{sensor}\"
#duties = \"understudy/{group}/duty/{duty}\"
# Whether anybody does it: online or offline.
#availability = \"understudy/{group}/available\"
# With this Home Assistant knows all sensors and duties by themselves, and with the other calls
# a sensor unavailable that has reported nothing for so long.
#home_assistant = \"homeassistant\"
#expire_after_s = 300

[http]
# Where rqlite's API is served. An address beyond loopback needs `open = true`,
# because there are no accounts yet.
#address = \"127.0.0.1:4001\"
#open = false

[udp]
# Where the boards' sealed datagrams come in: all interfaces, IPv4 and IPv6.
#address = \"[::]:4002\"
# Addresses under which other boards reach this one, when its own are not it.
#announce = [\"pump-house.example:4002\"]
# Boards that cannot be reached where they were, or where a token says they are, are
# looked for by multicast on this network (mDNS). It shows that a board is here, and
# nothing of its data.
#mdns = true

[database]
# What is written is safe in journal.db at once. state.db itself, for programs
# that read the file directly, follows this often, seconds. Shorter costs more
# of the card.
#commit_interval_s = 120
# While such a program reads for minutes on end, state.db-wal grows, to this
# many megabytes; then the board applies nothing more until it is done.
#wal_mb_max = 32

[witness]
# If this board is a witness (`understudy join TOKEN --witness`): what its log may
# take while one of the boards with the data is away, megabytes. When that is used
# up the group refuses to write (`understudy set one_copy`).
#log_mb = 64

[readings]
# Sensor processes write to two sockets there: readings.sock takes datagrams,
# readings.stream.sock streams. Beside the control socket unless told otherwise: a
# folder of their own, as /run/understudy/readings, can be given to a container without
# that one.
#readings_directory = \"/run/understudy\"
# Who may write to them, as octal permissions: every user of this board.
#readings_mode = \"0666\"
# What comes by them waits so long for more to share a write with, milliseconds.
#batch_window_ms = 50
# While no majority of the boards is there, and whenever a reading is not stored by all
# after so many milliseconds, readings are kept in this board's spool, of so many
# megabytes. When that is full, \"refuse\" takes no more, and \"thin\" gives up every second
# of the oldest; how many is a reading of the sensor understudy/lost.
#spool_after_ms = 1000
#spool_mb = 64
#spool_full = \"refuse\"

[clock]
# What shows that this board knows the time: it follows a time server, its clock was
# set from one that runs without power, or was moved by more than 10 s while the agent
# ran (`timedatectl set-time`). `understudy clock confirm` always does. With \"peer\" it goes
# by the clock of another board until its own is set. Until then readings are kept in
# order by boot time, and put right afterwards.
#clock_set_by = [\"ntp\", \"rtc\", \"step\"]

# What this board can do only as long as a command says so: while the check is healthy the
# board has the capability of its name, and none of that name stands above. The command, by
# its absolute path, is run by the agent's own user unless another is named; it says yes by
# ending with 0, and its last line on standard error is shown as the reason. There can be
# several. (As the service runs it a ping needs `sysctl net.ipv4.ping_group_range=\"0 2147483647\"`.)
#[[check]]
#name = \"lte\"
#command = [\"/usr/bin/curl\", \"--interface\", \"wwan0\", \"-so\", \"/dev/null\", \"http://1.1.1.1\"]
# Another user is refused where the agent may not become one, as in the service.
#user = \"nobody\"
# From the start of one run to the next (until the first verdict 1 s), and how long a run
# may take, at most as long, before it is killed with all of its process group.
#interval_s = 10
#timeout_s = 5
# So many successes in a row make it healthy, which it is not at the start, and so many
# failures in a row end that.
#rise = 2
#fall = 3

# Sensors of the board itself, read by the agent every so often: a source as `understudy board`
# lists it, * for any part, or a line of a GPIO chip (\"gpio/GPIO17\"). There can be several.
# Only a pin that is used as a plain input may be read: one that is used for PWM, UART or I2C
# becomes an input when the agent lets it go, which it does when it ends.
#[[sample]]
#source = \"thermal/*\"
# What their readings are called.
#sensor = \"{board}/{source}\"
#every_s = 60

# What this board does while it holds a duty (`understudy duty add sampler` makes that,
# once for the group): a command, by its absolute path, and who runs it, if not the
# agent's own user. One such part for each duty.
#[[duty]]
#name = \"sampler\"
#command = [\"/usr/local/bin/sampler\", \"--port\", \"/dev/ttyUSB0\"]
#user = \"pi\"
# How long it has to end by itself when the duty goes elsewhere, and after how many ends
# in a row, each within ten seconds, another board has its turn.
#grace_ms = 5000
#failures = 5
# Who is told when the duty has come and when it is gone: these commands, each with ten
# seconds for it, and a POST of JSON over plain HTTP. The duty waits for none of them.
#on_take = [\"/usr/local/bin/led\", \"on\"]
#on_lose = [\"/usr/local/bin/led\", \"off\"]
#webhook = \"http://hub.local:8123/api/webhook/sampler\"
";
