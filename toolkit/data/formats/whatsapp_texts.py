"""What WhatsApp itself writes in place of a message, in the languages that it was seen in.

Left-out media stand between angle brackets in all of them; iOS marks its own texts with a
left-to-right mark. What is here are the others: they look like what somebody wrote.
"""

# ruff: noqa: RUF001 (letters of other alphabets are meant)

import re
import unicodedata

_DELETED = """
This message was deleted
You deleted this message
This message was deleted by admin
Diese Nachricht wurde gelöscht
Du hast diese Nachricht gelöscht
Se eliminó este mensaje
Este mensaje fue eliminado
Eliminaste este mensaje
Ce message a été supprimé
Vous avez supprimé ce message
Mensagem apagada
Esta mensagem foi apagada
Esta mensagem foi eliminada
Você apagou esta mensagem
Apagou esta mensagem
Eliminou esta mensagem
Questo messaggio è stato eliminato
Hai eliminato questo messaggio
Dit bericht is verwijderd
Dit bericht werd verwijderd
U hebt dit bericht verwijderd
Je hebt dit bericht verwijderd
Bu mesaj silindi
Bu mesajı sildiniz
Данное сообщение удалено
Это сообщение удалено
Вы удалили данное сообщение
Вы удалили это сообщение
यह मैसेज डिलीट कर दिया गया है
यह मैसेज डिलीट कर दिया गया
यह मैसेज मिटाया गया
आपने यह मैसेज डिलीट कर दिया
"""
_CALLS = """
Missed voice call
Missed video call
Missed group voice call
Missed group video call
Verpasster Sprachanruf
Verpasster Videoanruf
Verpasster Gruppenanruf
Llamada perdida
Llamada de voz perdida
Videollamada perdida
Appel vocal manqué
Appel vidéo manqué
Chamada de voz perdida
Chamada de vídeo perdida
Videochamada perdida
Chamada perdida
Chiamata vocale persa
Videochiamata persa
Gemiste spraakoproep
Gemiste audio-oproep
Gemiste video-oproep
Cevapsız sesli arama
Cevapsız görüntülü arama
Пропущенный аудиозвонок
Пропущенный видеозвонок
"""
_OMITTED = """
image omitted
video omitted
audio omitted
sticker omitted
GIF omitted
document omitted
contact card omitted
video note omitted
Bild weggelassen
Video weggelassen
Audio weggelassen
Sticker weggelassen
GIF weggelassen
Dokument weggelassen
Kontaktkarte ausgelassen
imagen omitida
video omitido
audio omitido
sticker omitido
GIF omitido
documento omitido
image absente
vidéo absente
audio omis
audio absent
sticker omis
imagem ocultada
imagem omitida
vídeo omitido
áudio ocultado
áudio omitido
figurinha omitida
immagine omessa
video omesso
audio omesso
sticker omesso
sticker non incluso
GIF omessa
GIF esclusa
documento omesso
afbeelding weggelaten
sticker weggelaten
document weggelaten
video weggelaten
audio weggelaten
görüntü dahil edilmedi
video dahil edilmedi
ses dahil edilmedi
Çıkartma dahil edilmedi
belge dahil edilmedi
изображение отсутствует
видео отсутствует
аудио отсутствует
"""
_OTHER = """
null
Waiting for this message
Waiting for this message. This may take a while
Live location shared
"""
_ATTACHED = (
    "file attached", "Datei angehängt", "Dateianhang", "archivo adjunto", "fichier joint",
    "arquivo anexado", "ficheiro anexado", "file allegato", "bestand bijgevoegd", "dosya ekli",
    "файл добавлен", "файл прикреплен", "файл прикреплён", "फ़ाइल संलग्न",
)  # fmt: skip
_EDITED = (
    "This message was edited", "Diese Nachricht wurde bearbeitet", "Se editó este mensaje",
    "Ce message a été modifié", "Mensagem editada", "Esta mensagem foi editada",
    "Questo messaggio è stato modificato", "Dit bericht is bewerkt", "Bu mesaj düzenlendi",
    "Данное сообщение изменено", "Сообщение изменено",
)  # fmt: skip


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _any_of(phrases: tuple[str, ...]) -> str:
    return "|".join(re.escape(_normal(phrase)) for phrase in phrases)


_WHOLE = frozenset(_normal(_DELETED + _CALLS + _OMITTED + _OTHER).split("\n")) - {""}
_PATTERN = re.compile(
    r"<[^<>]+>"
    r"|[a-z]{3}-\d{8}-wa\d+\.\w+ \(.+\)"
    rf"|.+ \((?:{_any_of(_ATTACHED)})\)"
    r"|[^:]{3,20}: https://maps\.google\.com/\?q=\S+"
)
_REMARK = re.compile(rf"\u200e<[^<>]+>|<(?:{_any_of(_EDITED)})\.?>")


def is_own(line: str) -> bool:
    """Whether a message's first line is WhatsApp's own: media, a deletion, a call, a place."""
    text = _normal(line.strip("\u200e\u200f\u202f\xa0 "))
    return text.rstrip(".।") in _WHOLE or _PATTERN.fullmatch(text) is not None


def without_edited(text: str) -> str:
    """Return a message without the remark at its end that it was edited."""
    message = text.rstrip()
    # From the last bracket on: searched for from the front, long white space would take hours.
    begin = message.rfind("<")
    if begin < 0:
        return text
    begin -= message[:begin].endswith("\u200e")
    edited = _REMARK.fullmatch(_normal(message[begin:]))
    return message[:begin].rstrip() if edited else text
