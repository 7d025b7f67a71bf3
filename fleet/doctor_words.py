"""Every sentence of `cruisers doctor`, in English and Japanese: what was seen, and what to do. Errors of the kernel and of other programs
are quoted as they are.

In braces stand the values of a finding; a value named `reason` is shown with a colon before it, or not at all where it is empty."""

import string
from collections.abc import Mapping

from fleet.doctor_finding import Say

LANGUAGES = ("en", "ja")

WORDS: dict[str, tuple[str, str]] = {
    # names of the checks, marks, the last line
    "check_power": ("power", "電源"),
    "check_disk": ("disk", "ディスク"),
    "check_clock": ("clock", "時計"),
    "check_head": ("head", "ヘッド"),
    "check_sensors": ("sensors", "センサー"),
    "check_receiver": ("receiver", "GNSS"),
    "check_camera": ("camera", "カメラ"),
    "check_hub": ("hub", "ハブ"),
    "check_link": ("link", "回線"),
    "check_spool": ("spool", "スプール"),
    "mark_green": ("ok   ", "○"),
    "mark_yellow": ("look ", "△"),
    "mark_red": ("WRONG", "×"),
    "mark_grey": ("-    ", "－"),
    "sum_green": ("{count} ok", "正常 {count}"),
    "sum_yellow": ("{count} to look at", "要確認 {count}"),
    "sum_red": ("{count} wrong", "異常 {count}"),
    "sum_grey": ("{count} not applicable", "対象外 {count}"),
    "do": ("do:", "対処:"),
    "state_ok": ("ok", "正常"),
    "state_absent": ("absent", "応答なし"),
    "state_configuring": ("starting", "起動中"),
    "state_degraded": ("degraded", "不安定"),
    "state_failed": ("failed", "故障"),
    "link_metered": ("metered", "従量制"),
    "link_unmetered": ("unmetered", "定額"),
    "link_depot": ("depot", "車庫"),
    "parked": ("parked: the ignition is off, nothing is recorded", "駐車中: イグニッションがオフのため記録していません"),
    # the checks themselves
    "check_late": ("no result within {seconds:.0f} s", "{seconds:.0f} 秒以内に結果が出ません"),
    "check_failed": ("the check itself failed: {kind}: {error}", "検査自体が失敗しました: {kind}: {error}"),
    "do_late": (
        "look into the kernel's log (sudo dmesg | tail); something hangs",
        "カーネルのログを見てください (sudo dmesg | tail)。何かが停止しています",
    ),
    "do_report": (
        "run it again with sudo; if it stays, send this line to the developers",
        "sudo で再実行し、直らなければこの行を開発者へ送ってください",
    ),
    "do_wait": ("wait a minute and run the doctor again", "1 分待って再実行してください"),
    "do_recorder": (
        "start the recorder (sudo systemctl start cruisers-recorder) and run the doctor again",
        "recorder を起動し (sudo systemctl start cruisers-recorder)、再実行してください",
    ),
    "do_uplink": (
        "start the uplink (sudo systemctl start cruisers-uplink) and run the doctor again",
        "uplink を起動し (sudo systemctl start cruisers-uplink)、再実行してください",
    ),
    # power
    "power_unknown": ("no Raspberry Pi: nobody tells of its supply", "Raspberry Pi ではないため電源の状態は分かりません"),
    "power_low_now": ("under-voltage now ({source})", "現在、電圧が不足しています ({source})"),
    "power_low_before": ("under-voltage since the start ({source})", "起動後に電圧不足がありました ({source})"),
    "power_well": ("the supply is well ({source})", "電源は正常です ({source})"),
    "power_slow_now": ("slowed down now, by heat or supply", "現在、熱または電源のため減速しています"),
    "power_slow_before": ("was slowed down by heat since the start", "起動後に熱のため減速しました"),
    "power_speed": ("full speed", "全速で動作しています"),
    "do_supply": (
        "measure 5 V at the Pi's pins 2 and 6 (4.9 V at least); a thicker or shorter wire, then the converter",
        "Pi のピン 2 と 6 で 5 V を測り (4.9 V 以上)、配線を太く短くするか、電源を交換してください",
    ),
    "do_cool": ("fan and heat sink, air around the box, out of the sun", "ファンと放熱板、箱の通風、直射日光を確認してください"),
    # disk
    "disk_no_spool": ("no folder {spool}", "フォルダー {spool} がありません"),
    "disk_no_mount": ("nobody knows which file system {spool} is on", "{spool} のファイルシステムが分かりません"),
    "disk_not_lasting": (
        "the spool is on {type} ({point}): a power cut takes it",
        "スプールが {type} ({point}) にあり、電源断で失われます",
    ),
    "disk_unknown": ("the kernel names no disk for {source} ({type})", "{source} ({type}) のディスクが分かりません"),
    "disk_is": ("{kind} {disk}, {model}, {type}", "{kind} {disk}、{model}、{type}"),
    "disk_free": ("{free:.1f} of {size:.1f} GB free", "空き {free:.1f} / {size:.1f} GB"),
    "disk_low": (
        "{free:.1f} of {size:.1f} GB free, less than the reserve of {reserve:.1f} GB",
        "空き {free:.1f} / {size:.1f} GB、予備 {reserve:.1f} GB 未満です",
    ),
    "disk_full": (
        "full: {free:.3f} of {size:.1f} GB free (reserve {reserve:.1f} GB)",
        "満杯です: 空き {free:.3f} / {size:.1f} GB (予備 {reserve:.1f} GB)",
    ),
    "disk_quota": (
        "quota {quota:.0f} GB and reserves, {wanted:.0f} GB, do not fit on {size:.0f} GB",
        "上限 {quota:.0f} GB と予備の計 {wanted:.0f} GB は {size:.0f} GB に収まりません",
    ),
    "mount_well": ("{point}: {options}", "{point}: {options}"),
    "mount_read_only": ("{point} is read-only: nothing can be recorded", "{point} は読み取り専用で、記録できません"),
    "mount_no_barrier": (
        "{point} is mounted without barriers: a power cut takes what was acknowledged",
        "{point} はバリアなしで、電源断時に確認済みデータが失われます",
    ),
    "mount_no_journal": (
        "{point} is {type}: a power cut can break it as a whole",
        "{point} は {type} で、電源断で全体が壊れることがあります",
    ),
    "mount_data": ("{point} is mounted with {option}", "{point} は {option} でマウントされています"),
    "mount_atime": (
        "{point} is mounted without noatime: every reading costs a writing",
        "{point} は noatime なしで、読むたびに書き込みが起きます",
    ),
    "mount_no_discard": ("{disk} is never trimmed: it gets slower and wears sooner", "{disk} は TRIM されず、遅くなり寿命も縮みます"),
    "do_mount": (
        "plug the SSD in; check its line in /etc/fstab, then: sudo mount -a",
        "SSD を接続し、/etc/fstab の行を確認して sudo mount -a を実行してください",
    ),
    "do_ssd": (
        "put the spool on an SSD (hardware.md): a truck writes up to 252 GB a day",
        "スプールを SSD に置いてください (hardware.md)。1 日最大 252 GB 書き込みます",
    ),
    "do_no_platters": (
        "if it is not an SSD behind a USB bridge, fit one: platters do not bear a truck",
        "USB 接続の SSD でなければ SSD に交換してください。磁気ディスクは車両に不向きです",
    ),
    "do_free": (
        "delete what is not ours on that disk (sudo du -xh / | sort -h | tail); is the sweeper running?",
        "他のファイルを削除し (sudo du -xh / | sort -h | tail)、sweeper の動作を確認してください",
    ),
    "do_quota": (
        "lower spool_quota_bytes in the truck's configuration, or fit a larger disk",
        "設定の spool_quota_bytes を下げるか、大きいディスクにしてください",
    ),
    "do_read_only": (
        "sudo dmesg | grep -i error; if the disk is well: sudo mount -o remount,rw, else replace it",
        "sudo dmesg | grep -i error を見て、正常なら sudo mount -o remount,rw、異常なら交換してください",
    ),
    "do_options": ("set {options} for it in /etc/fstab and restart", "/etc/fstab で {options} を指定し、再起動してください"),
    "do_ext4": (
        "format it as ext4 (all that is on it goes) and mount it with noatime",
        "ext4 でフォーマットし (内容は消えます)、noatime でマウントしてください",
    ),
    "do_fstrim": ("sudo systemctl enable --now fstrim.timer", "sudo systemctl enable --now fstrim.timer を実行してください"),
    "wear_sd": ("an SD card does not tell its wear", "SD カードの消耗度は分かりません"),
    "wear_no_smartctl": ("wear not known: smartctl is not installed", "消耗度は不明です: smartctl がありません"),
    "wear_no_answer": ("wear of {disk} not known: {error}", "{disk} の消耗度は不明です: {error}"),
    "wear_untold": ("{disk} does not tell its wear", "{disk} は消耗度を示しません"),
    "wear_failing": ("{disk} says that it fails: {error}", "{disk} が故障を報告しています: {error}"),
    "wear_used": ("{used:.0f} % of the life of {disk} is used", "{disk} の寿命の {used:.0f} % を使用しました"),
    "do_smartctl": ("sudo apt install smartmontools", "sudo apt install smartmontools を実行してください"),
    "do_root": (
        "run the doctor with sudo; some USB bridges do not let it through",
        "sudo で実行してください。USB 変換によっては取得できません",
    ),
    "do_replace": ("order a new disk and replace it at the next service", "新しいディスクを手配し、次の整備で交換してください"),
    "do_replace_now": (
        "replace the disk today; let the uplink deliver first (cruisers status)",
        "今日中に交換してください。先に送信を終えてください (cruisers status)",
    ),
    # clock
    "clock_recorder": ("the recorder dates by {source}, to {error:.2f} s", "recorder の時刻源は {source}、誤差 {error:.2f} 秒"),
    "clock_none": (
        "the recorder has no time: readings are dated later, by the center",
        "recorder に時刻がありません。日時は後でセンターが付けます",
    ),
    "clock_kernel": ("the system clock is synchronised, to {error:.2f} s", "システム時計は同期しています (誤差 {error:.2f} 秒)"),
    "clock_unsynchronised": ("the system clock is not synchronised", "システム時計は同期していません"),
    "do_clock": (
        "give the receiver a view of the sky, or the truck a network; then wait 5 min",
        "受信機に空を見せるか、ネットワークに接続し、5 分待ってください",
    ),
    "chrony_other": ("chrony is not there; another program keeps the clock", "chrony はありませんが、別のプログラムが時計を合わせています"),
    "chrony_absent": ("chrony is not installed", "chrony がありません"),
    "chrony_silent": ("chrony does not answer: {error}", "chrony が応答しません: {error}"),
    "chrony_lost": ("chrony follows nobody", "chrony に時刻源がありません"),
    "chrony_follows": (
        "chrony follows {name} (stratum {stratum}), off by {offset:.3f} ms",
        "chrony は {name} (stratum {stratum}) に同期、ずれ {offset:.3f} ms",
    ),
    "do_chrony": ("sudo apt install chrony", "sudo apt install chrony を実行してください"),
    "do_chrony_start": ("sudo systemctl enable --now chrony", "sudo systemctl enable --now chrony を実行してください"),
    "do_chrony_sources": (
        "chronyc sources: is PPS there (receiver, wire), is a server reachable?",
        "chronyc sources で PPS (受信機、配線) とサーバーを確認してください",
    ),
    "rtc_there": ("a battery-backed clock is there", "電池付き時計 (RTC) があります"),
    "rtc_absent": ("no battery-backed clock: no time until the first fix", "電池付き時計 (RTC) がなく、最初の測位まで時刻がありません"),
    "rtc_wrong": ("the battery-backed clock has no date that can be true", "電池付き時計 (RTC) の日付が正しくありません"),
    "rtc_off": ("the battery-backed clock is off by {off:+.0f} s", "電池付き時計 (RTC) が {off:+.0f} 秒ずれています"),
    "do_rtc": ("none is needed; a Raspberry Pi 5 takes a battery at J5", "必須ではありません。Raspberry Pi 5 は J5 に電池を付けられます"),
    "do_rtc_battery": ("check its battery, then: sudo hwclock --systohc", "電池を確認し、sudo hwclock --systohc を実行してください"),
    # serial ports, head, box
    "port_absent": ("{port} is not there", "{port} がありません"),
    "port_closed": ("{port} may not be opened by this user", "{port} をこの利用者は開けません"),
    "port_error": ("{port}: {error}", "{port}: {error}"),
    "port_taken": ("{port} is open in {name} (process {pid})", "{port} は {name} (プロセス {pid}) が使用中です"),
    "do_cable": (
        "plug it in; try another cable and port; is its udev rule installed (cruisers provision)?",
        "接続し、別のケーブルと端子を試し、udev 規則 (cruisers provision) を確認してください",
    ),
    "do_dialout": (
        "run the doctor with sudo, or: sudo usermod -aG dialout $USER, and log in again",
        "sudo で実行するか、sudo usermod -aG dialout $USER の後に再ログインしてください",
    ),
    "do_end_process": (
        "end it (sudo kill {pid}): the port belongs to the recorder",
        "終了してください (sudo kill {pid})。この端子は recorder のものです",
    ),
    "head_none": ("no head and no box is configured", "ヘッドも箱も設定されていません"),
    "head_untold": (
        "the recorder owns {port}, and no running uplink tells its state",
        "{port} は recorder が使用中ですが、uplink から状態が得られません",
    ),
    "head_unheard": ("the recorder owns {port}, and has not yet heard it", "{port} は recorder が使用中で、まだ応答がありません"),
    "head_owned": (
        "it answers; the recorder owns {port}, which is left alone",
        "応答しています。{port} は recorder が使用中のため触れません",
    ),
    "head_state": ("{state} at {port} (of the recorder){reason}", "{port} (recorder 経由): {state}{reason}"),
    "head_is": (
        "firmware {firmware}, {runtime}, unit {unique_id}, started by {reset_cause}",
        "ファームウェア {firmware}、{runtime}、個体 {unique_id}、起動原因 {reset_cause}",
    ),
    "head_no_hello": ("{port} sends frames ({frames}) and does not answer", "{port} はフレーム ({frames}) を送りますが応答しません"),
    "head_silent": ("nothing of a head is heard at {port}", "{port} にヘッドの応答がありません"),
    "head_bad_frames": ("{bad} frames came damaged, {frames} whole", "壊れたフレーム {bad}、正常 {frames}"),
    "head_parts": ("its list of parts is refused: {error}", "部品表が拒否されました: {error}"),
    "head_watchdog": ("its watchdog restarted it", "ウォッチドッグで再起動しました"),
    "head_reset_itself": ("it restarted itself: {marker}", "自分で再起動しました: {marker}"),
    "head_health": (
        "up {uptime:.0f} min, heap {heap:.0f} kB free, {dropped} frames dropped from its ring",
        "稼働 {uptime:.0f} 分、空きヒープ {heap:.0f} kB、リングから失われたフレーム {dropped}",
    ),
    "head_heap": ("little memory: {heap:.0f} kB free after {uptime:.0f} min", "メモリー不足: {uptime:.0f} 分後の空き {heap:.0f} kB"),
    "head_slow": (
        "a turn took {loop:.0f} ms (up {uptime:.0f} min, heap {heap:.0f} kB free)",
        "1 周に {loop:.0f} ms かかりました (稼働 {uptime:.0f} 分、空きヒープ {heap:.0f} kB)",
    ),
    "box_not_asked": ("{port} is there; only the recorder asks a box", "{port} はあります。箱に問い合わせるのは recorder だけです"),
    "do_head": (
        "unplug the head for 5 s; if it stays: cruisers flash",
        "ヘッドを 5 秒抜き、直らなければ cruisers flash を実行してください",
    ),
    "do_flash": ("flash it again: cruisers flash", "cruisers flash で書き込み直してください"),
    "do_usb": ("another USB cable, shorter, away from the radio", "別の短い USB ケーブルを無線機から離して使ってください"),
    "do_watch_head": (
        "see whether it comes again (cruisers head console); then report the unit",
        "再発するか確認し (cruisers head console)、再発すれば個体を報告してください",
    ),
    "head_keys_well": ("keys for its update: the unit's, and {count} of images", "更新用の鍵: 個体の鍵、イメージの鍵 {count}"),
    "head_key_none": ("no unit_key in [head]: it cannot be updated from here", "[head] に unit_key がなく、ここから更新できません"),
    "head_image_key_none": ("no image_keys in [head]: no update is trusted", "[head] に image_keys がなく、どの更新も信頼されません"),
    "head_key_unreadable": ("a key for its update: {path}: {error}", "更新用の鍵: {path}: {error}"),
    "head_key_size": ("{path} is not a unit's key of {bytes} bytes", "{path} は個体の鍵 ({bytes} バイト) ではありません"),
    "head_key_open": ("{path} can be read by others (mode {mode})", "{path} を他の利用者が読めます (モード {mode})"),
    "head_key_owner": ("{path} has another owner than {other}", "{path} の所有者が {other} と異なります"),
    "head_image_key_bad": ("a key of images: {error}", "イメージの鍵: {error}"),
    "head_image_key_open": ("{path} can be changed by others (mode {mode})", "{path} を他の利用者が変更できます (モード {mode})"),
    "do_head_key": (
        "on the hub: cruisers provision with the folder of passports; install its folder here",
        "ハブで passport のフォルダーを付けて cruisers provision を実行し、ここにインストールしてください",
    ),
    "do_head_key_owner": ("sudo chown --reference {other} {path}", "sudo chown --reference {other} {path} を実行してください"),
    "do_image_key": (
        "on the hub: cruisers provision with --image-key; install its folder here",
        "ハブで --image-key を付けて cruisers provision を実行し、ここにインストールしてください",
    ),
    "do_image_key_mode": ("sudo chmod 644 {path}", "sudo chmod 644 {path} を実行してください"),
    "do_key_root": ("run the doctor with sudo", "sudo で実行してください"),
    # sensors
    "sensors_none": ("no head and no bus is configured", "ヘッドもバスも設定されていません"),
    "sensors_no_head": ("not asked: see the head", "未確認です。ヘッドを見てください"),
    "sensors_untold": (
        "the recorder runs, and no running uplink tells the sensors' states",
        "recorder は動作中ですが、uplink から状態が得られません",
    ),
    "sensors_bus": ("{path}: {error}", "{path}: {error}"),
    "do_bus": (
        "enable I2C (sudo raspi-config, Interface Options), plug the adapter in, or use sudo",
        "I2C を有効にし (sudo raspi-config)、アダプターを接続し、または sudo で実行してください",
    ),
    "sensors_silent": ("not one sensor has said anything", "どのセンサーからも応答がありません"),
    "sensors_well": ("{count} ok: {names}", "正常 {count}: {names}"),
    "sensors_spare": ("not fitted, another stands in: {names}", "代替品があるため未装着: {names}"),
    "sensor_state": ("{name}: {state}{reason}", "{name}: {state}{reason}"),
    "do_sensor_absent": (
        "check its plug, wires and address (hardware.md), and that the list of parts is right",
        "コネクター、配線、アドレス (hardware.md) と部品表を確認してください",
    ),
    "do_sensor_failed": (
        "unplug it for 10 s; if it stays, replace it (cruisers sense shows it live)",
        "10 秒抜き、直らなければ交換してください (cruisers sense で確認)",
    ),
    "do_input": (
        "is its line in /boot/firmware/config.txt (install.sh), and the Pi restarted since?",
        "/boot/firmware/config.txt の行 (install.sh) と、その後の再起動を確認してください",
    ),
    "do_sensor_degraded": (
        "check its plug and cable for a loose contact; look again in a minute",
        "接触不良を確認し、1 分後に再確認してください",
    ),
    # receiver
    "receiver_none": ("no receiver is configured", "受信機は設定されていません"),
    "receiver_not_asked": ("the recorder reads it, and does not run", "受信機を読む recorder が動作していません"),
    "receiver_untold": ("nothing is known of it now", "現在の状態は不明です"),
    "receiver_well": ("it has a fix (of the recorder)", "測位しています (recorder 経由)"),
    "receiver_state": ("{state} (of the recorder){reason}", "{state} (recorder 経由){reason}"),
    "gpsd_refused": ("no gpsd at {host} port {port}: {error}", "{host} ポート {port} に gpsd がありません: {error}"),
    "gpsd_stranger": ("what answers is not gpsd", "応答したのは gpsd ではありません"),
    "gpsd_no_device": ("gpsd {release} has no receiver", "gpsd {release} に受信機がありません"),
    "gpsd_device": ("gpsd {release} reads {device}", "gpsd {release} が {device} を読んでいます"),
    "gpsd_silent": ("the receiver says nothing", "受信機から何も届きません"),
    "gpsd_no_fix": (
        "no fix (mode {mode}); satellites: {used} used, {seen} seen",
        "測位できません (mode {mode})。衛星: 使用 {used}、受信 {seen}",
    ),
    "gpsd_no_time": ("a fix (mode {mode}) without date", "日付のない測位です (mode {mode})"),
    "gpsd_fix_alone": (
        "fix, mode {mode}, to {error} m; satellites are not reported",
        "測位、mode {mode}、誤差 {error} m。衛星数の報告なし",
    ),
    "gpsd_poor": (
        "a poor fix, mode {mode}, to {error} m; satellites: {used} used, {seen} seen",
        "測位不良、mode {mode}、誤差 {error} m。衛星: 使用 {used}、受信 {seen}",
    ),
    "gpsd_fix": (
        "fix, mode {mode}, to {error} m; satellites: {used} used, {seen} seen",
        "測位、mode {mode}、誤差 {error} m。衛星: 使用 {used}、受信 {seen}",
    ),
    "do_gpsd": (
        "sudo systemctl restart gpsd; look at: journalctl -u gpsd",
        "sudo systemctl restart gpsd の後、journalctl -u gpsd を見てください",
    ),
    "do_gpsd_device": (
        "is the receiver plugged in, and its port in /etc/default/gpsd (DEVICES)?",
        "受信機の接続と /etc/default/gpsd の DEVICES を確認してください",
    ),
    "do_receiver_cable": (
        "check the receiver's cable; sudo systemctl restart gpsd sets it up anew",
        "受信機のケーブルを確認し、sudo systemctl restart gpsd で再設定してください",
    ),
    "do_antenna": (
        "take the truck into the open for 2 min; then check antenna, plug and cable",
        "2 分間、空の開けた場所に置き、アンテナ、コネクター、ケーブルを確認してください",
    ),
    # camera
    "camera_none": ("no camera is configured", "カメラは設定されていません"),
    "camera_state": ("{name} ({source}) fails{reason}", "{name} ({source}) は故障{reason}"),
    "camera_owned": ("{name} ({source}): the recorder reads it", "{name} ({source}): recorder が使用中です"),
    "camera_absent": ("{name}: {source} is not there", "{name}: {source} がありません"),
    "camera_closed": ("{name}: {source} may not be opened by this user", "{name}: {source} をこの利用者は開けません"),
    "camera_error": ("{name} ({source}): {error}", "{name} ({source}): {error}"),
    "camera_no_mjpg": ("{name}: {source} offers no MJPG, but {formats}", "{name}: {source} は MJPG 非対応です ({formats})"),
    "camera_no_picture": ("{name}: {source} answers without a picture", "{name}: {source} から画像が届きません"),
    "camera_well": ("{name} ({source}) delivers MJPEG", "{name} ({source}) は MJPEG に対応しています"),
    "images_well": ("the last image was written {age:.0f} s ago", "最後の画像は {age:.0f} 秒前に書かれました"),
    "images_old": ("the last image was written {age:.0f} s ago", "最後の画像は {age:.0f} 秒前です"),
    "images_none": ("no image of this shift is in the spool", "この運行の画像がスプールにありません"),
    "do_camera": (
        "plug the camera out and in; another USB port, another cable; sudo dmesg | tail",
        "カメラを挿し直し、別の USB 端子とケーブルを試し、sudo dmesg | tail を見てください",
    ),
    "do_camera_mjpg": (
        "is it the camera's first device (v4l2-ctl --list-devices)? else another model",
        "カメラの最初のデバイスか確認し (v4l2-ctl --list-devices)、違えば機種を変えてください",
    ),
    "do_camera_net": ("is the camera powered, and its address right (curl -I)?", "カメラの電源とアドレスを確認してください (curl -I)"),
    "do_video": (
        "run the doctor with sudo, or: sudo usermod -aG video $USER, and log in again",
        "sudo で実行するか、sudo usermod -aG video $USER の後に再ログインしてください",
    ),
    # hub
    "hub_no_name": ("no address for {host}: {error}", "{host} のアドレスが分かりません: {error}"),
    "hub_name": ("{host} is {address}", "{host} は {address}"),
    "hub_refused": ("{host} port {port} cannot be reached: {error}", "{host} ポート {port} に接続できません: {error}"),
    "hub_silent": ("{host} port {port} does not answer", "{host} ポート {port} が応答しません"),
    "hub_no_tls": ("{host} port {port}: {error}", "{host} ポート {port}: {error}"),
    "hub_untrusted": ("the certificate for {domain} is not trusted: {error}", "{domain} の証明書は信頼できません: {error}"),
    "hub_ca_file": ("{error}", "{error}"),
    "hub_certificate": (
        "{host} port {port}, {version}, certificate good for {days} days",
        "{host} ポート {port}、{version}、証明書の残り {days} 日",
    ),
    "hub_no_password": ("the account's password: {path}: {error}", "アカウントのパスワード: {path}: {error}"),
    "hub_password_open": ("{path} can be read by others (mode {mode})", "{path} を他の利用者が読めます (モード {mode})"),
    "hub_login": ("{account} cannot log in: {error}", "{account} はログインできません: {error}"),
    "hub_logged_in": ("{account} is logged in", "{account} でログインできました"),
    "hub_asked": ("the hub does not answer as it should: {error}", "ハブの応答が正しくありません: {error}"),
    "hub_rights": ("it may publish and read as it should on all {nodes} nodes", "全 {nodes} ノードの権限は正しいです"),
    "hub_rights_lack": ("rights are missing on {count} of {nodes} nodes: {names}", "{nodes} ノード中 {count} の権限がありません: {names}"),
    "hub_reads": ("its receipts can be read", "受領通知を読めます"),
    "hub_reads_not": ("its receipts cannot be read: {error}", "受領通知を読めません: {error}"),
    "hub_takes": (
        "takes uploads of up to {file:.0f} MB, items of up to {payload:.0f} kB",
        "上限: アップロード {file:.0f} MB、項目 {payload:.0f} kB",
    ),
    "hub_no_upload": (
        "the hub tells no limit for uploads: there may be no upload service",
        "ハブがアップロードの上限を示しません。アップロード機能がない可能性があります",
    ),
    "do_dns": (
        "is there a network (see link)? Then check host of [hub], and: resolvectl query",
        "回線を確認し、[hub] の host と resolvectl query を確認してください",
    ),
    "do_hub_route": (
        "is there a network (see link)? Is the hub up, and the port open in firewalls?",
        "回線、ハブの動作、ファイアウォールのポートを確認してください",
    ),
    "do_hub_port": (
        "check host and port of [hub]: XMPP with STARTTLS is on 5222",
        "[hub] の host と port を確認してください (STARTTLS は 5222)",
    ),
    "do_hub_log": ("run it again; if it stays, the hub's log tells why", "再実行し、直らなければハブのログを確認してください"),
    "do_certificate_expired": (
        "renew the hub's certificate (restart the hub); is this truck's clock right?",
        "ハブを再起動して証明書を更新し、車両の時計も確認してください",
    ),
    "do_certificate_clock": ("this truck's clock is behind: see clock", "車両の時計が遅れています。時計の項を見てください"),
    "do_certificate_ca": (
        "copy the hub's ca.pem to ca_file of [hub] (cruisers provision); check domain",
        "ハブの ca.pem を [hub] の ca_file へコピーし、domain を確認してください (cruisers provision)",
    ),
    "do_certificate_renew": (
        "restart the hub: it renews its own certificate; a bought one: renew it",
        "ハブを再起動すると更新されます。購入した証明書は更新手続きをしてください",
    ),
    "do_password_root": (
        "run the doctor with sudo; if the file is missing: cruisers provision",
        "sudo で実行し、ファイルがなければ cruisers provision を実行してください",
    ),
    "do_password_mode": ("sudo chmod 600 {path}", "sudo chmod 600 {path} を実行してください"),
    "do_account": (
        "is the account there and not revoked (cruisers hub)? Write its password anew",
        "アカウントの有無 (cruisers hub) を確認し、パスワードを書き直してください",
    ),
    "do_rights": (
        "on the hub: cruisers hub add {truck}, which repairs nodes and rights",
        "ハブで cruisers hub add {truck} を実行し、権限を修復してください",
    ),
    "do_upload": ("on the hub: is mod_http_upload on?", "ハブの mod_http_upload を確認してください"),
    # link
    "link_none": ("no way to the hub{reason}", "ハブへの経路がありません{reason}"),
    "link_is": (
        "{interface} (ssid {ssid}): {link} ({why}); everything may go",
        "{interface} (SSID {ssid}): {link} ({why})。すべて送信できます",
    ),
    "link_waiting": (
        "{interface} (ssid {ssid}): {link} ({why}); waiting for a better one: {waiting}",
        "{interface} (SSID {ssid}): {link} ({why})。別の回線を待つもの: {waiting}",
    ),
    "link_spent": (
        "{interface} (ssid {ssid}): {link} ({why}); {budget:.1f} GB of this month are used up",
        "{interface} (SSID {ssid}): {link} ({why})。今月の {budget:.1f} GB を使い切りました",
    ),
    "do_link": (
        "modem, SIM and antenna, or the depot's Wi-Fi: nmcli device; ip route",
        "モデム、SIM、アンテナ、車庫の Wi-Fi を確認してください (nmcli device、ip route)",
    ),
    "do_budget": (
        "bring it to the depot's Wi-Fi, or raise monthly_bytes of the rule",
        "車庫の Wi-Fi に接続するか、規則の monthly_bytes を増やしてください",
    ),
    # spool
    "spool_none": ("no folder {spool}", "フォルダー {spool} がありません"),
    "process_runs": ("running: {names}", "動作中: {names}"),
    "process_not_running": ("{name} does not run as it should", "{name} が正しく動作していません"),
    "process_problem": ("{name}: {problem}", "{name}: {problem}"),
    "backlog_unknown": ("backlog not known: the uplink has not said", "未送信量は不明です (uplink の報告なし)"),
    "backlog": ("{size:.3f} GB in {segments} segments wait to be delivered", "未送信 {size:.3f} GB ({segments} セグメント)"),
    "backlog_long": (
        "{size:.1f} GB in {segments} segments wait, {hours:.0f} h at the present rate",
        "未送信 {size:.1f} GB ({segments} セグメント)、現在の速度で {hours:.0f} 時間",
    ),
    "set_aside": ("{count} segments are set aside, first {segment}{reason}", "{count} セグメントが保留中、最初は {segment}{reason}"),
    "quota_well": ("{used:.1f} of {quota:.0f} GB used by {segments} segments", "使用 {used:.1f} / {quota:.0f} GB ({segments} セグメント)"),
    "quota_nearly": (
        "nearly full: {used:.1f} of {quota:.0f} GB in {segments} segments",
        "残りわずか: {used:.1f} / {quota:.0f} GB ({segments} セグメント)",
    ),
    "quota_over": (
        "over its quota: {used:.1f} of {quota:.0f} GB in {segments} segments",
        "上限超過: {used:.1f} / {quota:.0f} GB ({segments} セグメント)",
    ),
    "open_left": ("{count} files are open and nobody writes them: {names}", "書き込む者のない開いたファイル {count}: {names}"),
    "damaged": ("{count} sealed files do not end as they should: {names}", "末尾が正しくない封済みファイル {count}: {names}"),
    "inodes": ("only {left:.1f} % of the file system's inodes are free", "inode の空きが {left:.1f} % しかありません"),
    "do_start": (
        "sudo systemctl start cruisers-{name}; why it ended: journalctl -u cruisers-{name}",
        "sudo systemctl start cruisers-{name}。原因は journalctl -u cruisers-{name}",
    ),
    "do_status": ("cruisers status shows more", "cruisers status で詳細を確認してください"),
    "do_backlog": (
        "leave the truck on, at the depot's Wi-Fi, until cruisers status shows no backlog",
        "車庫の Wi-Fi で電源を入れたまま、cruisers status の未送信がなくなるまで待ってください",
    ),
    "do_set_aside": (
        "tell the center the segment and the reason; it blocks nothing",
        "セグメントと理由をセンターに伝えてください。他の送信は止まりません",
    ),
    "do_sweeper": (
        "is the sweeper running? cruisers status tells what it may not delete",
        "sweeper の動作を確認してください。cruisers status に削除できない理由が出ます",
    ),
    "do_damaged": (
        "cruisers segment doctor {path}; what is whole in it is not lost",
        "cruisers segment doctor {path} を実行してください。正常な部分は失われません",
    ),
    "do_inodes": (
        "delete many small files of others on that disk (sudo du --inodes -x / | sort -n | tail)",
        "他の小さいファイルを削除してください (sudo du --inodes -x / | sort -n | tail)",
    ),
}


def language_of(environment: Mapping[str, str]) -> str:
    """The language that the environment asks for (locale(7): LC_ALL, LC_MESSAGES, LANG, in this order); English where it asks
    for none of ours."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            language = environment[name][:2].lower()
            return language if language in LANGUAGES else LANGUAGES[0]
    return LANGUAGES[0]


def text(said: Say, language: str) -> str:
    """`said` in words. A key that the table lacks (the state of a newer program) is shown as it is."""
    if said.key not in WORDS:
        return said.key
    values = {name: text(value, language) if isinstance(value, Say) else value for name, value in said.values.items()}
    if "reason" in values:
        values["reason"] = f": {values['reason']}" if values["reason"] else ""
    return WORDS[said.key][LANGUAGES.index(language)].format(**values)


def fields(sentence: str) -> set[str]:
    """The names in the braces of a sentence."""
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}
