"""A toy corpus of our own: about 400 kB of simple sentences in English and Chinese, varied enough to pass the default filters."""

import random
from collections.abc import Iterator
from pathlib import Path

WORDS = {
    "who": "monk smith girl boy brother sister teacher farmer soldier king "
    "queen hunter baker singer weaver doctor judge sailor miner fool",
    "how": "old young tall quiet clever angry tired happy lost proud "
    "hungry honest lazy brave gentle rich poor strange famous small",
    "does": "carried sold found forgot weighed painted broke hid bought cleaned "
    "stole burned counted buried lost cooked kept sent gave took",
    "what": "tea iron salt gold bread silk paper rice honey stones wine oil boxes books apples horses knives lamps coats letters",
    "where": "valley river market temple forest garden harbour kitchen tower village "
    "desert cave bridge school palace field inn mill road sea",
    "when": "morning evening winter summer spring autumn night storm feast war "
    "harvest flood rain snow fog holiday wedding fair trial dawn",
    "谁": "道士 铁匠 女孩 男孩 哥哥 姐姐 老师 农夫 士兵 国王 王后 猎人 面包师 歌手 织工 医生 法官 水手 矿工 傻瓜",
    "怎样": "年老 年轻 高大 安静 聪明 生气 疲倦 快乐 迷路 骄傲 饥饿 诚实 懒惰 勇敢 温和 富有 贫穷 奇怪 出名 矮小",
    "做": "搬走 卖掉 找到 忘记 称过 画好 打碎 藏起 买下 擦净 偷走 烧掉 数完 埋下 丢失 煮熟 留住 送出 交出 拿走",
    "何物": "茶叶 铁器 盐巴 黄金 馒头 丝绸 纸张 大米 蜂蜜 石头 美酒 灯油 箱子 书本 苹果 马匹 刀具 油灯 外套 书信",
    "何处": "山谷 河边 集市 寺庙 森林 花园 港口 厨房 塔楼 村庄 沙漠 洞穴 桥头 学堂 宫殿 田野 客栈 磨坊 路旁 海边",
    "何时": "清晨 傍晚 冬天 夏天 春天 秋天 夜里 风暴 节日 战时 收成 洪水 雨天 雪天 雾天 假期 婚礼 庙会 审判 黎明",
}


def notes(seed: int = 5) -> Iterator[tuple[str, str]]:
    """Names and texts of 400 documents."""
    dice = random.Random(seed)

    def pick(kind: str) -> str:
        return dice.choice(WORDS[kind].split())

    def english() -> str:
        there = f"In the {pick('where')}, one {pick('when')}, " if dice.random() < 0.5 else ""
        said = f"the {pick('how')} {pick('who')} and a {pick('how')} {pick('who')} {pick('does')} the {pick('what')}"
        text = f"{there}{said} of {dice.randrange(1000)} {pick('who')}s."
        return text[0].upper() + text[1:]

    def chinese() -> str:
        there = f"{pick('何时')}在{pick('何处')}，" if dice.random() < 0.5 else ""
        return f"{there}{pick('怎样')}的{pick('谁')}{pick('做')}了{dice.randrange(1000)}份{pick('何物')}。"

    for number in range(200):
        yield f"english/{number:03}.txt", "\n".join(" ".join(english() for _ in range(4)) for _ in range(4)) + "\n"
        yield f"chinese/{number:03}.txt", "\n".join("".join(chinese() for _ in range(4)) for _ in range(4)) + "\n"


def write_notes(folder: Path) -> Path:
    """The corpus as files below `folder`."""
    for name, text in notes():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
