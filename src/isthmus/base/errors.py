"""One tree of errors, and one catalogue of everything that can go wrong.

    IsthmusError
    ├── ConfigError    what was asked for does not fit together             exit 4
    ├── DataError      a file, column, row or model cannot be used           exit 4
    ├── PolicyError    allowed to nobody, or not agreed                      exit 6
    ├── LineError      nobody's fault: the line; it is tried again           exit 2
    ├── PeerError      the partner sent something wrong (bytes from outside raise this alone)  exit 1
    └── LocalError     ours                                                  exit 1, a bug 5

An error carries a stable code, a sentence and a hint in English and Chinese, and the fields that name what is
meant (column, rows, partner). Only the code crosses to a partner, never the fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Entry:
    """Words of one code: a sentence and a hint, English and Chinese; `{name}` is filled from the fields."""

    en: str
    zh: str
    hint_en: str
    hint_zh: str


CONFIG: dict[str, Entry] = {
    "unknown_field": Entry(
        "{where} has a field {field} that nobody knows.",
        "{where} 中的字段 {field} 无法识别。",
        "Correct the name or remove it; known here: {known}.",
        "请改正字段名或删除它；此处可用：{known}。",
    ),
    "ambiguous_field": Entry(
        "{field} could be more than one field: {known}.",
        "{field} 可能指多个字段：{known}。",
        "Write more of the path.",
        "请写出更完整的路径。",
    ),
    "missing_field": Entry(
        "{where} needs the field {field}.",
        "{where} 缺少字段 {field}。",
        "Add it; every field stands in the reference of the job file.",
        "请补上该字段；全部字段见作业文件参考。",
    ),
    "out_of_bounds": Entry(
        "{field} is {value}, which is not allowed.",
        "{field} 的值为 {value}，不在允许范围内。",
        "Allowed: {allowed}.",
        "允许的取值：{allowed}。",
    ),
    "bad_path": Entry(
        "The path {path} cannot be used: {why}.",
        "路径 {path} 无法使用：{why}。",
        "Name a regular file that this user can read.",
        "请指定当前用户可读的普通文件。",
    ),
    "bad_document": Entry(
        "{where} cannot be read: {why}.",
        "{where} 无法解析：{why}。",
        "Write plain YAML or JSON: no tags, no anchors, at most 256 KiB.",
        "请使用普通 YAML 或 JSON：不含标签和锚点，不超过 256 KiB。",
    ),
    "hash_changed": Entry(
        "The job file is not the one that was signed.",
        "作业文件与签署时的内容不一致。",
        "Run it again from the signed file, or have the new one accepted by every party.",
        "请使用已签署的文件，或请各方重新确认新的文件。",
    ),
    "file_mode": Entry(
        "{path} holds a secret and can be read by others.",
        "{path} 含有密钥，但其他用户也可读取。",
        "Run: chmod 600 {path}",
        "请执行：chmod 600 {path}",
    ),
    "key_missing": Entry(
        "The key of this node is missing: {path}.",
        "本节点的密钥文件缺失：{path}。",
        "Restore it from a backup of this folder; a new key is never made silently. A new node: isthmus init.",
        "请从备份恢复；系统不会自动生成新密钥。新建节点请执行 isthmus init。",
    ),
    "rotating": Entry(
        "The key of this node is being changed already, until {until} at the latest; it waits for {partners}.",
        "本节点的密钥正在更换，最迟至 {until}；仍在等待 {partners}。",
        "Wait until these partners have been heard with the new key, or revoke those that will not come back: isthmus partner ls",
        "请等待这些合作方使用新密钥通信，或撤销不再往来的合作方：isthmus partner ls",
    ),
    "not_a_node": Entry(
        "{path} is not the folder of a node.",
        "{path} 不是节点目录。",
        "Run: isthmus --home {path} init --party NAME",
        "请执行：isthmus --home {path} init --party 名称",
    ),
    "already_there": Entry(
        "{what} exists already.",
        "{what} 已经存在。",
        "Choose another name, or remove the old one first.",
        "请换一个名称，或先删除原有的。",
    ),
    "backup_damaged": Entry(
        "{path} is not a whole backup of a node: {why}.",
        "{path} 不是完整的节点备份：{why}。",
        "Take another copy of it, or an older backup. Nothing was changed.",
        "请使用该备份的其他副本或更早的备份。没有更改任何内容。",
    ),
    "backup_by_server": Entry(
        "The database of this node is on a server ({database}), which makes its own backups.",
        "本节点的数据库位于服务器（{database}），应由服务器自行备份。",
        "Use pg_dump for the database, and copy config.yaml, tls/cert.pem and the results in jobs/ beside it.",
        "请用 pg_dump 备份数据库，并一同复制 config.yaml、tls/cert.pem 以及 jobs/ 中的结果。",
    ),
    "key_other": Entry(
        "The key in {path} is not the one that {party} had when the backup was made.",
        "{path} 中的密钥不是 {party} 备份时所用的密钥。",
        "Put the right key back. If the party's key was changed after the backup, restore again with --key and the new public key.",
        "请放回正确的密钥。如备份之后更换过密钥，请用 --key 加新公钥重新恢复。",
    ),
    "not_found": Entry(
        "There is no {what}.",
        "找不到 {what}。",
        "List what exists: {list_command}.",
        "查看现有内容：{list_command}。",
    ),
    "bad_invitation": Entry(
        "The invitation cannot be used: {why}.",
        "邀请函无法使用：{why}。",
        "Ask the partner for a fresh one: isthmus partner invite.",
        "请对方重新生成：isthmus partner invite。",
    ),
    "conflict": Entry(
        "{what} is {state}; this can be done only while it is {needed}.",
        "{what} 当前状态为 {state}；仅在 {needed} 状态下可执行此操作。",
        "Look at it first: {show_command}.",
        "请先查看：{show_command}。",
    ),
    "not_confirmed": Entry(
        "The partner {partner} is not confirmed yet.",
        "合作方 {partner} 尚未确认。",
        "Read the four words to each other, then run at both sides: isthmus partner confirm {partner} WORDS.",
        "双方通过电话核对四个词，然后各自执行：isthmus partner confirm {partner} 四个词。",
    ),
    "key_reused": Entry(
        "The idempotency key {key} was used for another request.",
        "幂等键 {key} 已用于另一个请求。",
        "Send the request with a key of its own; a key belongs to one request for 24 hours.",
        "请为该请求使用新的键；一个键在 24 小时内只对应一个请求。",
    ),
    "key_unfinished": Entry(
        "The request with the idempotency key {key} was broken off; what it did is not known.",
        "使用幂等键 {key} 的请求曾被中断，其结果未知。",
        "List what exists first; then send the request with a new key if it is still needed.",
        "请先查看现有内容；如仍有需要，请使用新的键重新发送。",
    ),
    "no_listener": Entry(
        "Neither {partner} nor this node listens, so no line can be made.",
        "{partner} 与本节点都不监听，无法建立连接。",
        "Give one of the two an address: isthmus init --listen HOST:PORT --address https://NAME:PORT.",
        "请为其中一方设置地址：isthmus init --listen 主机:端口 --address https://名称:端口。",
    ),
    "weak_password": Entry(
        "The password cannot be used: {why}.",
        "该密码不可用：{why}。",
        "Take at least 12 characters; a few unrelated words make a good one.",
        "请至少使用 12 个字符；几个互不相关的词即可组成好密码。",
    ),
    "body_late": Entry(
        "The body of the request was not there within {limit} s.",
        "请求正文未在 {limit} 秒内到齐。",
        "Send it again on a faster line, or raise limits.body_s in config.yaml.",
        "请换用更快的线路重新发送，或在 config.yaml 中提高 limits.body_s。",
    ),
    "no_profile": Entry(
        "There is no profile {name}.",
        "找不到登录配置 {name}。",
        "Sign in first: isthmus sign-in --profile {name} --user NAME.",
        "请先登录：isthmus sign-in --profile {name} --user 用户名。",
    ),
    "not_a_helper": Entry(
        "{path} is not the folder of a helper.",
        "{path} 不是协助方目录。",
        "Run: isthmus helper init --name NAME --listen HOST:PORT --address https://NAME:PORT",
        "请执行：isthmus helper init --name 名称 --listen 主机:端口 --address https://名称:端口",
    ),
    "helper_record": Entry(
        "{path} is missing, or does not belong to the sealing key of this helper.",
        "{path} 缺失，或与本协助方的密封密钥不匹配。",
        "The key and the record go together and are in no backup. Run isthmus helper init again: name and signing key stay, leaders need the new card, and rounds under way are lost.",
        "密钥与记录必须成对，且不进入备份。请重新执行 isthmus helper init：名称和签名密钥不变，主导方需要新的名片，进行中的轮次作废。",
    ),
    "bad_card": Entry(
        "The card cannot be used: {why}.",
        "名片无法使用：{why}。",
        "Ask its owner for a fresh one: isthmus helper card.",
        "请向其所有者索取新的名片：isthmus helper card。",
    ),
}

DATA: dict[str, Entry] = {
    "encoding_error": Entry(
        "{file} is not {encoding}: row {row}, byte {offset}.",
        "{file} 不是 {encoding} 编码：第 {row} 行，第 {offset} 字节。",
        "Declare the encoding (--encoding gb18030, for example) or convert the file to UTF-8.",
        "请声明编码（例如 --encoding gb18030）或将文件转换为 UTF-8。",
    ),
    "bad_csv": Entry(
        "{file} is not a well-formed CSV: {why}.",
        "{file} 不是格式正确的 CSV：{why}。",
        "Every row needs as many cells as the header; a cell with a comma or a line break needs quotes.",
        "每行的单元格数必须与表头一致；含逗号或换行的单元格需要加引号。",
    ),
    "duplicate_id": Entry(
        "Column {column} of {file} repeats {count} ids; rows {rows}.",
        "{file} 的 {column} 列有 {count} 个重复的标识；行号 {rows}。",
        "Remove the repeats, or choose which row counts: duplicates=first or duplicates=last.",
        "请去除重复，或指定保留哪一行：duplicates=first 或 duplicates=last。",
    ),
    "null_id": Entry(
        "Column {column} of {file} has {count} rows without an id; rows {rows}.",
        "{file} 的 {column} 列有 {count} 行缺少标识；行号 {rows}。",
        "Fill in the ids or remove these rows.",
        "请补全标识或删除这些行。",
    ),
    "malformed_id": Entry(
        "Column {column} of {file} has {count} ids that are not {form}; rows {rows}.",
        "{file} 的 {column} 列有 {count} 个标识不符合 {form} 格式；行号 {rows}。",
        "Correct them, or declare the form the column really has.",
        "请更正，或声明该列的实际格式。",
    ),
    "missing_column": Entry(
        "{file} has no column {column}; it has: {known}.",
        "{file} 没有列 {column}；现有列：{known}。",
        "Correct the name; upper and lower case differ.",
        "请更正列名；区分大小写。",
    ),
    "repeated_column": Entry(
        "{file} has more than one column named {column}.",
        "{file} 有多个名为 {column} 的列。",
        "Give every column a name of its own.",
        "请为每一列取不同的名称。",
    ),
    "too_small": Entry(
        "{what} has {count} rows; at least {needed} are needed.",
        "{what} 有 {count} 行，至少需要 {needed} 行。",
        "Use a larger sample.",
        "请使用更大的样本。",
    ),
    "too_large": Entry(
        "{what} has {size}; at most {limit} is accepted.",
        "{what} 的规模为 {size}，上限为 {limit}。",
        "Split the file or leave columns out.",
        "请拆分文件或减少列数。",
    ),
    "no_features": Entry(
        "{file} has no usable feature column ({dropped} left out as constant or empty).",
        "{file} 没有可用的特征列（{dropped} 列因取值恒定或为空被排除）。",
        "Add at least one column whose values differ.",
        "请至少加入一列取值不同的特征。",
    ),
    "one_class": Entry(
        "The label {column} has one class only among {count} rows.",
        "标签 {column} 在 {count} 行中只有一个类别。",
        "A model needs good and bad cases; check the label and the sample.",
        "模型需要正负两类样本；请检查标签与样本。",
    ),
    "bad_label": Entry(
        "The label {column} of {file} has {count} values that are not 0 or 1; rows {rows}.",
        "{file} 的标签 {column} 有 {count} 个取值不是 0 或 1；行号 {rows}。",
        "Use 0 and 1, or name the value that counts as bad.",
        "请使用 0 和 1，或指定哪个取值为坏样本。",
    ),
    "bad_target": Entry(
        "The target {column} of {file} has {count} values that are missing or not finite numbers; rows {rows}.",
        "{file} 的目标列 {column} 有 {count} 个取值缺失或不是有限数值；行号 {rows}。",
        "Correct them or remove these rows.",
        "请更正或删除这些行。",
    ),
    "not_a_number": Entry(
        "Column {column} of {file} has {count} cells that are not finite numbers; rows {rows}.",
        "{file} 的 {column} 列有 {count} 个单元格不是有限数值；行号 {rows}。",
        "Correct them, leave them empty for missing, or declare the column as categorical.",
        "请更正，或留空表示缺失，或将该列声明为类别型。",
    ),
    "not_finite": Entry(
        "The {what} holds values that are not finite numbers.",
        "{what} 含有非有限数值。",
        "Nothing of it was used. Lower the learning rate, or look for such values in the examples.",
        "该数据未被使用。请降低学习率，或检查样本中是否存在此类数值。",
    ),
    "dataset_changed": Entry(
        "{file} has changed since it was registered.",
        "{file} 自登记后发生了变化。",
        "Register it again as a new version: isthmus dataset add.",
        "请重新登记为新版本：isthmus dataset add。",
    ),
    "unsupported_format": Entry(
        "{file} is not a CSV or Parquet file ({why}).",
        "{file} 不是 CSV 或 Parquet 文件（{why}）。",
        "Save the table as CSV or Parquet. Formats that can carry code are never opened.",
        "请另存为 CSV 或 Parquet。可携带代码的格式一律不会打开。",
    ),
    "bad_array": Entry(
        "{file} declares data that it does not hold ({why}).",
        "{file} 声明的数据与内容不符（{why}）。",
        "Write the file again; it is damaged or was cut.",
        "请重新生成该文件；它已损坏或被截断。",
    ),
    "bad_model": Entry(
        "{file} is not a usable model half: {why}.",
        "{file} 不是可用的模型半边：{why}。",
        "Use the half that this party stored when the job ended.",
        "请使用本方在作业结束时保存的模型半边。",
    ),
    "unknown_ids": Entry(
        "{count} ids of {file} are not in the table; rows {rows}.",
        "{file} 中有 {count} 个标识不在数据表内；行号 {rows}。",
        "List ids that occur in the label table.",
        "请只列出标签表中存在的标识。",
    ),
}

POLICY: dict[str, Entry] = {
    "round_closed": Entry(
        "The round does not take reports any more.",
        "该轮次已不再接收上报。",
        "Nothing is to be done: the device drops the report and checks in again.",
        "无需处理：设备会丢弃该上报并重新签到。",
    ),
    "device_revoked": Entry(
        "This device has left the fleet or was blocked.",
        "该设备已退出或被移出设备群。",
        "Enrol it with a new key, if it is to come back: enrol() after forget().",
        "如需重新加入，请使用新密钥重新登记：先 forget()，再 enrol()。",
    ),
    "device_rounds_spent": Entry(
        "This device has taken part in the task as often as it may.",
        "该设备参与此任务的次数已达上限。",
        "The limit is rounds.max_per_device of the task; a new task counts anew.",
        "上限为任务的 rounds.max_per_device；新任务将重新计数。",
    ),
    "vectors": Entry(
        "{partner} asked for more encrypted sums than the {allowed} that both parties signed.",
        "{partner} 请求的加密求和次数超过双方签署的上限 {allowed}。",
        "Nothing more is answered. If the job needs more, raise crypto.vectors_max in the job file and sign it again.",
        "不再应答。若作业确需更多，请在作业文件中提高 crypto.vectors_max 并重新签署。",
    ),
    "overlap_too_small": Entry(
        "The shared rows are, or may be, fewer than the agreed floor of {floor}.",
        "共有样本数低于或可能低于约定的下限 {floor}。",
        "Use larger tables or the same form of id on both sides. align.min_rows of the job file may be lowered to 100, not below the grant.",
        "请使用更大的数据表，或统一双方的标识格式。作业文件中 align.min_rows 最低为 100，且不得低于授权规定的下限。",
    ),
    "grant_missing": Entry(
        "No grant of {holder} covers this job: {why}.",
        "{holder} 没有覆盖该作业的授权：{why}。",
        "At {holder}: isthmus grant give, or isthmus job accept JOB --grant for this job alone. To ask for one: isthmus grant ask.",
        "请 {holder} 执行 isthmus grant give，或以 isthmus job accept 作业 --grant 仅授权此作业。申请授权：isthmus grant ask。",
    ),
    "grant_expired": Entry(
        "The grant {grant} of {holder} was valid until {day}.",
        "{holder} 的授权 {grant} 有效期至 {day}，现已到期。",
        "Ask for a new one: isthmus grant ask.",
        "请申请新的授权：isthmus grant ask。",
    ),
    "grant_revoked": Entry(
        "{holder} has revoked the grant {grant}.",
        "{holder} 已撤销授权 {grant}。",
        "Nothing more is computed on its data. Talk to {holder}; a new grant is needed for a new job.",
        "不再使用其数据进行计算。请与 {holder} 沟通；新的作业需要新的授权。",
    ),
    "purpose_differs": Entry(
        "The purpose of the job is not the one that {holder} has granted.",
        "作业的用途与 {holder} 授权的用途不一致。",
        "Write metadata.purpose as it stands in the grant (isthmus grant ls), or ask for a grant for this purpose.",
        "请按授权原文填写 metadata.purpose（见 isthmus grant ls），或为该用途申请授权。",
    ),
    "runs_spent": Entry(
        "No run on {dataset} of {holder} is left: {spent} of {allowed} are spent.",
        "{holder} 的 {dataset} 已无可用运行次数：{allowed} 次已用 {spent} 次。",
        "A grant counts all its runs, and those of the last 30 days on the same data. Wait, or ask for another: isthmus grant ask.",
        "授权既限制总运行次数，也限制同一数据 30 天内的运行次数。请等待，或另行申请：isthmus grant ask。",
    ),
    "privacy_spent": Entry(
        "The privacy budget of {what} is spent: epsilon {spent} of {allowed}.",
        "{what} 的隐私预算已用尽：epsilon 已用 {spent}，上限 {allowed}。",
        "No round that would go over it is opened. What was published stays; a new budget is a new agreement with the devices' owners.",
        "不再开启会超出预算的轮次。已发布的结果保留；新的预算须与设备所有者重新约定。",
    ),
    "set_too_large": Entry(
        "{partner} brings {rows} ids; the grant allows {allowed}.",
        "{partner} 带来 {rows} 个标识；授权允许的上限为 {allowed}。",
        "Nothing was aligned. The partner may take a smaller table; the holder may give a wider grant.",
        "未进行对齐。对方可使用更小的数据表；数据持有方也可放宽授权。",
    ),
    "change_too_small": Entry(
        "The ids of {partner}, or the rows shared with it, differ in number from an earlier run by fewer than {floor}.",
        "{partner} 的标识数或与其共有的样本数，与此前某次运行相差不足 {floor}。",
        "Runs that differ by a few ids tell of single ones. Use the same table again, or one that differs by more.",
        "仅差几个标识的多次运行会暴露个别样本。请使用相同的数据表，或差异更大的数据表。",
    ),
    "own_request": Entry(
        "{person} has asked for this or said yes to it already; another person has to decide.",
        "{person} 已提出或已同意该请求；须由另一人决定。",
        "The project {project} asks for two people of each party. Let a colleague run: isthmus approval approve {approval}.",
        "项目 {project} 要求每一方由两人确认。请由同事执行：isthmus approval approve {approval}。",
    ),
    "approval_pending": Entry(
        "{job} waits for an approval at {party}.",
        "{job} 正等待 {party} 的审批。",
        "An approver there runs: isthmus approval ls.",
        "请该方审批人执行：isthmus approval ls。",
    ),
    "approval_refused": Entry(
        "An approver of {party} refused {job}.",
        "{party} 的审批人拒绝了 {job}。",
        "The reason stands at {party}: isthmus approval ls. Change the job file and propose it again.",
        "原因见 {party} 的 isthmus approval ls。请修改作业文件后重新提交。",
    ),
    "refused": Entry(
        "{party} refused this job.",
        "{party} 拒绝了该作业。",
        "Talk to them, change the job file and propose it again.",
        "请与对方沟通，修改作业文件后重新提交。",
    ),
    "words_differ": Entry(
        "These are not the four words of the join with {partner}.",
        "这不是与 {partner} 建立关系时的四个词。",
        "Read them to each other again. If they differ at the two sides, somebody stands between: join anew.",
        "请双方再次核对。若两侧的词不同，说明中间有人介入：请重新建立关系。",
    ),
    "stopped": Entry(
        "{party} has stopped the job.",
        "{party} 已停止该作业。",
        "Ask {party} why; a stopped job is resumed by the party that stopped it.",
        "请向 {party} 了解原因；已停止的作业由停止方恢复。",
    ),
    "paused": Entry(
        "{party} has paused the job.",
        "{party} 已暂停该作业。",
        "It goes on from the last barrier once {party} resumes it.",
        "{party} 恢复后，作业将从上一个检查点继续。",
    ),
    "expired": Entry(
        "The job file is valid until {day} only.",
        "作业文件的有效期截至 {day}。",
        "Write a later metadata.valid_until and propose it again.",
        "请修改 metadata.valid_until 后重新提交。",
    ),
    "rate": Entry(
        "Too much at once: more than {what}.",
        "请求过多：超过 {what}。",
        "Wait {wait_s} s and send it again.",
        "请等待 {wait_s} 秒后重试。",
    ),
    "sign_in": Entry(
        "This request carries no valid token.",
        "请求未携带有效令牌。",
        "Sign in: isthmus sign-in. On the node's own machine its owner uses the token file in the folder of the node.",
        "请登录：isthmus sign-in。在节点所在机器上，其所有者可使用节点目录中的令牌文件。",
    ),
    "wrong_sign_in": Entry(
        "Name, password or code is wrong.",
        "用户名、密码或验证码错误。",
        "Check all three; a code of the app opens once, and a one-time code ends after 24 hours. After five failures one must wait.",
        "请逐项核对；应用验证码只能使用一次，一次性登录码 24 小时后失效。连续失败五次后需要等待。",
    ),
    "locked_out": Entry(
        "Too many sign-ins under this name have failed.",
        "该用户名登录失败次数过多。",
        "Wait {wait_s} s; an admin ends the wait with: isthmus user reset NAME.",
        "请等待 {wait_s} 秒；管理员也可执行 isthmus user reset 用户名 解除。",
    ),
    "role": Entry(
        "This needs the role {needed}.",
        "此操作需要角色：{needed}。",
        "Who can give it: {admins}.",
        "可授予该角色的人：{admins}。",
    ),
    "second_factor": Entry(
        "This needs a person who signed in with a second factor.",
        "此操作需要由使用双因素登录的本人执行。",
        "Set up the authenticator app: isthmus sign-in does so. A token of the interface is not enough.",
        "请设置验证器应用：执行 isthmus sign-in 即可。仅凭接口令牌不能执行。",
    ),
    "last_admin": Entry(
        "{name} is the last admin.",
        "{name} 是最后一位管理员。",
        "Give the role to somebody else first: isthmus user roles NAME --add admin.",
        "请先将该角色授予他人：isthmus user roles 用户名 --add admin。",
    ),
    "cohort_too_small": Entry(
        "{count} enrolled devices stand in the batch; a sum is over at least {floor}.",
        "该批次只有 {count} 台已注册设备；求和至少需要 {floor} 台。",
        "Wait for more reports, or join batches. The floor is that of the signed terms or of the helper, whichever is higher.",
        "请等待更多上报或合并批次。下限取已签署条款与协助方设定中的较高者。",
    ),
    "noise_needed": Entry(
        "The task has had all the sums without noise that this helper gives.",
        "该任务已用完本协助方允许的无噪声求和次数。",
        "Add noise (privacy.dp in the task file), or have the helper's operator allow more: isthmus helper allow --plain-max.",
        "请在任务文件中设置 privacy.dp 以加入噪声，或请协助方运维放宽：isthmus helper allow --plain-max。",
    ),
    "not_enrolled": Entry(
        "{leader} does not take this device into its fleet: {why}.",
        "{leader} 未接受本设备加入设备群：{why}。",
        "Let the app sign in again, so that the device gets a new ticket.",
        "请在应用中重新登录，以便设备获得新的注册凭证。",
    ),
    "leader_unknown": Entry(
        "The helper does not serve the leader {leader} with this enrolment authority.",
        "协助方不为使用该注册机构的主导方 {leader} 提供服务。",
        "At the helper: isthmus helper allow CARD, with the card of this leader.",
        "请在协助方执行：isthmus helper allow 名片（该主导方的名片）。",
    ),
}

LINE: dict[str, Entry] = {
    "helper_away": Entry(
        "The helper {helper} does not answer.",
        "协助方 {helper} 没有应答。",
        "The round waits for it until its time is up (rounds.answer_h); nothing is lost. Ask its operator: isthmus helper status.",
        "本轮将等待至 rounds.answer_h 到期，数据不会丢失。请联系其运维：isthmus helper status。",
    ),
    "unreachable": Entry(
        "{partner} cannot be reached: {why}.",
        "无法连接 {partner}：{why}。",
        "Check address, firewall and that the partner's node runs; it is tried again by itself. Run: isthmus doctor --partner {partner}",
        "请检查地址、防火墙及对方节点是否运行；系统会自动重试。可执行：isthmus doctor --partner {partner}",
    ),
    "closed": Entry(
        "The line was closed before the answer came.",
        "连接在收到应答前关闭。",
        "Look at the other process; the reason stands in its log.",
        "请查看对方进程的日志，其中有原因。",
    ),
    "partner_offline": Entry(
        "The line to {partner} has been down since {since}.",
        "与 {partner} 的连接自 {since} 起中断。",
        "The job goes on by itself when it stands again. What stands in the way: isthmus doctor --partner {partner}",
        "连接恢复后作业会自动继续。查看原因：isthmus doctor --partner {partner}",
    ),
    "proxy_refused": Entry(
        "The proxy {proxy} does not let this node through to {partner}: {why}.",
        "代理 {proxy} 不允许本节点连接 {partner}：{why}。",
        "HTTP 407: set proxy_user in config.yaml and write the password to keys/proxy.password; 403: ask for this address and port to be let through. isthmus doctor --letter writes the request.",
        "HTTP 407：请在 config.yaml 中设置 proxy_user，并将密码写入 keys/proxy.password；403：请申请放行该地址和端口。isthmus doctor --letter 可生成申请。",
    ),
    "tls_intercepted": Entry(
        "{partner} answers with a certificate that is not the one pinned.",
        "{partner} 出示的证书与已固定的不一致。",
        "A gateway opens TLS on this path, or the partner made a new certificate. Ask the partner for a new invitation.",
        "链路上有网关拆解 TLS，或对方更换了证书。请对方重新发送邀请函。",
    ),
    "version_gap": Entry(
        "{partner} speaks link version {theirs}, this node {ours}.",
        "{partner} 的链路版本为 {theirs}，本节点为 {ours}。",
        "Install the same release on both sides.",
        "请双方安装相同的版本。",
    ),
    "partner_restarted": Entry(
        "{partner} was restarted while the job ran.",
        "{partner} 在作业运行期间重新启动。",
        "The job goes on by itself from the last barrier.",
        "作业会自动从上一个检查点继续。",
    ),
}

PEER: dict[str, Entry] = {
    "content_mismatch": Entry(
        "{what} is not what its name says.",
        "{what} 与其名称（摘要）不符。",
        "It was dropped and will be fetched again. If this goes on, something on the way changes what it passes on.",
        "已丢弃并将重新获取。如持续出现，说明传输途中有内容被改动。",
    ),
    "report_changed": Entry(
        "A report with this id, or of this device in this round, is here already, and it is another one.",
        "该编号的上报，或该设备在本轮的上报已存在，且内容不同。",
        "The first one counts. A device sends one report in a round, and the same bytes again after a cut.",
        "以首次上报为准。设备每轮只上报一次，中断后应重发相同内容。",
    ),
    "unknown_device": Entry(
        "No device with this key is enrolled in this fleet.",
        "该设备群中没有使用此密钥登记的设备。",
        "Call enrol() with a ticket from the app's own sign-in.",
        "请使用应用登录签发的凭证调用 enrol()。",
    ),
    "bad_message": Entry(
        "The partner sent a message that does not fit the protocol: {why}.",
        "对方发送的消息不符合协议：{why}。",
        "Compare versions with isthmus doctor; if they agree, tell the partner's operator the trace id.",
        "请用 isthmus doctor 比对版本；若一致，请将追踪编号告知对方运维。",
    ),
    "bad_key": Entry(
        "The partner's key is not acceptable: {why}.",
        "对方的密钥不符合要求：{why}。",
        "Stop and ask the partner; nothing has been encrypted with it.",
        "请停止并询问对方；尚未使用该密钥加密任何数据。",
    ),
    "bad_ciphertext": Entry(
        "The partner sent a ciphertext that cannot be one: {why}.",
        "对方发送的密文无效：{why}。",
        "Stop and ask the partner; nothing has been decrypted.",
        "请停止并询问对方；尚未解密任何数据。",
    ),
    "wrong_channel": Entry(
        "A frame belongs to another job, channel, direction or partner.",
        "数据帧属于其他作业、通道、方向或合作方。",
        "It was refused. Repeated: somebody replays traffic; tell the operators of both sides.",
        "已拒绝。若反复出现，可能有人重放流量；请通知双方运维。",
    ),
    "step_changed": Entry(
        "The partner sent other content under a number that it had used before.",
        "对方以已使用过的编号发送了不同的内容。",
        "The job stops here. Ask the partner whether the node was copied or restored.",
        "作业已停止。请询问对方节点是否被复制或恢复过。",
    ),
    "bad_signature": Entry(
        "A signature of {partner} does not hold.",
        "{partner} 的签名验证失败。",
        "It was refused. If the partner changed keys, join again with a new invitation.",
        "已拒绝。若对方更换了密钥，请使用新的邀请函重新建立关系。",
    ),
    "answer_inconsistent": Entry(
        "The partner's sums do not add up.",
        "对方返回的求和结果不自洽。",
        "The job stops here; it is not tried again on the same data by itself.",
        "作业已停止；不会自动在相同数据上重试。",
    ),
    "secret_reused": Entry(
        "The partner {partner} used a one-time secret again, or one that was never announced.",
        "合作方 {partner} 重复使用了一次性密钥，或使用了从未声明的密钥。",
        "Nothing was answered. The partner's node may have been restored from a backup; begin a new job.",
        "未作任何应答。对方节点可能由备份恢复；请新建作业。",
    ),
    "forged_hint": Entry(
        "A message of {partner} that was opened and recomputed is not what the protocol makes.",
        "抽查并重新计算后，{partner} 的一条消息与协议规定不符。",
        "The job stops here and nothing more is answered. Speak to the partner: its program does not follow the protocol.",
        "作业已停止，不再应答。请联系对方：其程序未遵守协议。",
    ),
    "partner_rewound": Entry(
        "{partner} stands behind what this node has on record of the job: it was restored from a backup.",
        "{partner} 的作业进度落后于本节点的记录：可能是从备份恢复所致。",
        "If that was meant, a person there runs: isthmus job resume. No one-time secret is used again.",
        "若属有意恢复，请对方执行：isthmus job resume。一次性密钥不会被重复使用。",
    ),
    "partner_failed": Entry(
        "The partner's side of the job ended with {code}.",
        "对方一侧的作业以 {code} 结束。",
        "The partner sees the details; ask for the hint there.",
        "详情见对方节点，请向对方了解处理建议。",
    ),
    "bad_batch": Entry(
        "The batch cannot be answered: {why}.",
        "该批次无法应答：{why}。",
        "Nothing was answered and no report is used up. Leave out what the helper names when it looks at the batch.",
        "未作任何应答，也未消耗任何上报。请剔除协助方在预检时指出的条目。",
    ),
    "bad_cohort": Entry(
        "The leader asked for something that no honest leader asks for: {why}.",
        "主导方提出了诚实主导方不会提出的要求：{why}。",
        "The keys of this round are destroyed and no share left this device. The next round has new ones; repeated: tell the app's vendor.",
        "本轮密钥已销毁，没有任何份额离开本设备。下一轮会使用新密钥；若反复出现，请告知应用厂商。",
    ),
    "helper_mismatch": Entry(
        "{helper} did not answer for the reports of this batch.",
        "{helper} 的应答并非针对本批次的上报。",
        "The sum cannot be opened. Send both helpers the same batch; if that was done, speak to the helper's operator.",
        "无法打开求和结果。请向两个协助方发送相同的批次；若已如此，请联系该协助方的运维。",
    ),
    "helper_refused": Entry(
        "The helper {helper} refuses the batch: {code}.",
        "协助方 {helper} 拒绝该批次：{code}。",
        "The reason stands in the helper's log. No report was used up.",
        "原因见协助方日志。没有消耗任何上报。",
    ),
    "sum_check_failed": Entry(
        "The answer of {helper} is not what it signed, or not what it signed it for.",
        "{helper} 的应答与其签名不符。",
        "The sum was not opened. Ask again; if it stays so, speak to the helper's operator.",
        "未打开求和结果。请重新请求；若仍如此，请联系该协助方的运维。",
    ),
}

LOCAL: dict[str, Entry] = {
    "model_not_finite": Entry(
        "Round {round} would make a model with values that are not finite.",
        "第 {round} 轮将产生含非有限数值的模型。",
        "The model before it stays. Lower rounds.server_rate or local.learning_rate in a new task.",
        "保留之前的模型。请在新任务中调低 rounds.server_rate 或 local.learning_rate。",
    ),
    "secret_spent": Entry(
        "A one-time secret was asked for twice.",
        "一次性密钥被请求了两次。",
        "Nothing was sent. This is a defect of the program; report it.",
        "没有发送任何内容。这是程序缺陷，请报告。",
    ),
    "worker_killed": Entry(
        "The worker of the job ended without a result ({why}).",
        "作业进程未产生结果即结束（{why}）。",
        "Look at the log in the job's folder; memory is the usual cause.",
        "请查看作业目录中的日志；通常原因是内存不足。",
    ),
    "disk_error": Entry(
        "{path} cannot be written: {why}.",
        "{path} 无法写入：{why}。",
        "Free space or correct the rights of the folder.",
        "请释放磁盘空间或修正目录权限。",
    ),
    "disk_full": Entry(
        "The disk is full: {path} cannot be written.",
        "磁盘已满：无法写入 {path}。",
        "Free space; running jobs wait and go on by themselves.",
        "请释放磁盘空间；运行中的作业会等待并自动继续。",
    ),
    "checkpoint_damaged": Entry(
        "The record of the job's progress, {path}, cannot be read.",
        "作业进度记录 {path} 无法读取。",
        "Propose the job again; what stood there was not used.",
        "请重新发起该作业；损坏的内容未被使用。",
    ),
    "gave_up": Entry(
        "The worker of the job ended {times} times without getting any further ({why}).",
        "作业进程连续 {times} 次终止且没有任何进展（{why}）。",
        "Look at the log in the job's folder; memory is the usual cause. Then run: isthmus job resume.",
        "请查看作业目录中的日志；通常原因是内存不足。处理后执行：isthmus job resume。",
    ),
    "rewound": Entry(
        "This node stands behind what {partner} has on record of the job: it was restored from a backup.",
        "本节点的作业进度落后于 {partner} 的记录：可能是从备份恢复所致。",
        "If that was meant, run: isthmus job resume. No one-time secret is used again.",
        "若属有意恢复，请执行：isthmus job resume。一次性密钥不会被重复使用。",
    ),
    "superseded": Entry(
        "This worker's turn is over; a later attempt of the job has begun.",
        "该作业进程已被新的尝试取代。",
        "Nothing was written. The job goes on in the later attempt.",
        "没有写入任何内容；作业在新的尝试中继续。",
    ),
    "database_damaged": Entry(
        "The database {path} does not pass its check.",
        "数据库 {path} 未通过校验。",
        "Restore the folder of the node from a backup.",
        "请从备份恢复节点目录。",
    ),
    "restored": Entry(
        "This node was put back from a backup of {made_at}; where the job stood is not known.",
        "本节点由 {made_at} 的备份恢复，该作业的进度未知。",
        "Propose the job again.",
        "请重新发起该作业。",
    ),
    "database_newer": Entry(
        "The database {path} was written by a later version of the program.",
        "数据库 {path} 由更新版本的程序写入。",
        "Start that version again, or restore a backup that this one made.",
        "请使用该更新版本启动，或恢复由当前版本生成的备份。",
    ),
    "database_down": Entry(
        "The database {path} does not answer: {why}.",
        "数据库 {path} 没有响应：{why}。",
        "Start the database server, or correct `database` in config.yaml and its password.",
        "请启动数据库服务，或修正 config.yaml 中的 database 及其密码。",
    ),
    "not_running": Entry(
        "No node answers for {path}.",
        "{path} 对应的节点没有响应。",
        "Run: isthmus --home {path} serve",
        "请执行：isthmus --home {path} serve",
    ),
    "port_taken": Entry(
        "Port {port} cannot be listened on: {why}.",
        "无法监听端口 {port}：{why}。",
        "Choose another port in config.yaml, or stop the process that uses it.",
        "请在 config.yaml 中更换端口，或停止占用它的进程。",
    ),
    "busy": Entry(
        "Another process uses {path}.",
        "{path} 正被另一进程使用。",
        "Stop the other node first; one folder serves one node.",
        "请先停止另一节点；一个目录只能供一个节点使用。",
    ),
    "bug": Entry(
        "Something failed that should not ({why}).",
        "发生了不应出现的错误（{why}）。",
        "This is a defect of the program; report it with the trace id.",
        "这是程序缺陷，请附上追踪编号报告。",
    ),
}


class _Blank(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


class IsthmusError(Exception):
    """Base of all our errors. Raise one of the classes below with a code of its catalogue and its fields."""

    entries: ClassVar[dict[str, Entry]] = {}
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, /, **fields: Any) -> None:
        if code not in self.entries:
            raise KeyError(f"{type(self).__name__} has no code {code!r}")
        self.code = code
        self.fields = fields
        super().__init__(f"{code}: {self.sentence('en')}")

    def sentence(self, language: str) -> str:
        entry = self.entries[self.code]
        return (entry.zh if language == "zh" else entry.en).format_map(self._words())

    def hint(self, language: str) -> str:
        entry = self.entries[self.code]
        return (entry.hint_zh if language == "zh" else entry.hint_en).format_map(self._words())

    def _words(self) -> _Blank:
        lists = (list, tuple)
        return _Blank(
            {k: ", ".join(map(str, v)) if isinstance(v, lists) else v for k, v in self.fields.items()}
        )


class ConfigError(IsthmusError):
    """What was asked for does not fit together."""

    entries = CONFIG
    status = 422
    exit_code = 4


class DataError(IsthmusError):
    """A file, column, row or model cannot be used."""

    entries = DATA
    status = 422
    exit_code = 4


class PolicyError(IsthmusError):
    """Not allowed, or not agreed."""

    entries = POLICY
    status = 403
    exit_code = 6


class LineError(IsthmusError):
    """Nobody's fault: the line. Whoever waits tries again."""

    entries = LINE
    status = 503
    exit_code = 2


class PeerError(IsthmusError):
    """The partner sent something wrong. Bytes from outside raise nothing else."""

    entries = PEER
    status = 502
    exit_code = 1


class LocalError(IsthmusError):
    """Ours: this machine or this program."""

    entries = LOCAL
    status = 500
    exit_code = 1


CLASSES: tuple[type[IsthmusError], ...] = (
    ConfigError,
    DataError,
    PolicyError,
    LineError,
    PeerError,
    LocalError,
)


def rebuild(class_name: str, code: str, fields: dict[str, Any]) -> IsthmusError:
    """The error that another process of ours wrote down as class, code and fields."""
    for cls in CLASSES:
        if cls.__name__ == class_name and code in cls.entries:
            return cls(code, **fields)
    return LocalError("bug", why=f"unknown error {class_name}.{code}")
