package dev.toolkit.trainer.chats

import java.text.Normalizer

/**
 * What WhatsApp itself writes in place of a message, in the languages that it was seen in: toolkit/data/formats/whatsapp_texts.py.
 * Left-out media stand between angle brackets in all of them.
 */
internal object WhatsAppTexts {
    private const val WHOLE =
        "This message was deleted|You deleted this message|This message was deleted by admin|Diese Nachricht wurde gelöscht|" +
        "Du hast diese Nachricht gelöscht|Se eliminó este mensaje|Este mensaje fue eliminado|Eliminaste este mensaje|" +
        "Ce message a été supprimé|Vous avez supprimé ce message|Mensagem apagada|Esta mensagem foi apagada|" +
        "Esta mensagem foi eliminada|Você apagou esta mensagem|Apagou esta mensagem|Eliminou esta mensagem|" +
        "Questo messaggio è stato eliminato|Hai eliminato questo messaggio|Dit bericht is verwijderd|" +
        "Dit bericht werd verwijderd|U hebt dit bericht verwijderd|Je hebt dit bericht verwijderd|Bu mesaj silindi|" +
        "Bu mesajı sildiniz|Данное сообщение удалено|Это сообщение удалено|Вы удалили данное сообщение|" +
        "Вы удалили это сообщение|यह मैसेज डिलीट कर दिया गया है|यह मैसेज डिलीट कर दिया गया|यह मैसेज मिटाया गया|" +
        "आपने यह मैसेज डिलीट कर दिया|Missed voice call|Missed video call|Missed group voice call|Missed group video call|" +
        "Verpasster Sprachanruf|Verpasster Videoanruf|Verpasster Gruppenanruf|Llamada perdida|Llamada de voz perdida|" +
        "Videollamada perdida|Appel vocal manqué|Appel vidéo manqué|Chamada de voz perdida|Chamada de vídeo perdida|" +
        "Videochamada perdida|Chamada perdida|Chiamata vocale persa|Videochiamata persa|Gemiste spraakoproep|" +
        "Gemiste audio-oproep|Gemiste video-oproep|Cevapsız sesli arama|Cevapsız görüntülü arama|Пропущенный аудиозвонок|" +
        "Пропущенный видеозвонок|image omitted|video omitted|audio omitted|sticker omitted|GIF omitted|document omitted|" +
        "contact card omitted|video note omitted|Bild weggelassen|Video weggelassen|Audio weggelassen|Sticker weggelassen|" +
        "GIF weggelassen|Dokument weggelassen|Kontaktkarte ausgelassen|imagen omitida|video omitido|audio omitido|" +
        "sticker omitido|GIF omitido|documento omitido|image absente|vidéo absente|audio omis|audio absent|sticker omis|" +
        "imagem ocultada|imagem omitida|vídeo omitido|áudio ocultado|áudio omitido|figurinha omitida|immagine omessa|" +
        "video omesso|audio omesso|sticker omesso|sticker non incluso|GIF omessa|GIF esclusa|documento omesso|" +
        "afbeelding weggelaten|sticker weggelaten|document weggelaten|video weggelaten|audio weggelaten|" +
        "görüntü dahil edilmedi|video dahil edilmedi|ses dahil edilmedi|Çıkartma dahil edilmedi|belge dahil edilmedi|" +
        "изображение отсутствует|видео отсутствует|аудио отсутствует|null|Waiting for this message|" +
        "Waiting for this message. This may take a while|Live location shared"

    private const val ATTACHED =
        "file attached|Datei angehängt|Dateianhang|archivo adjunto|fichier joint|arquivo anexado|ficheiro anexado|" +
        "file allegato|bestand bijgevoegd|dosya ekli|файл добавлен|файл прикреплен|файл прикреплён|फ़ाइल संलग्न"

    private const val EDITED =
        "This message was edited|Diese Nachricht wurde bearbeitet|Se editó este mensaje|Ce message a été modifié|" +
        "Mensagem editada|Esta mensagem foi editada|Questo messaggio è stato modificato|Dit bericht is bewerkt|" +
        "Bu mesaj düzenlendi|Данное сообщение изменено|Сообщение изменено"

    private val own = WHOLE.split('|').map(::normal).toSet()
    private val pattern = Regex(
        "<[^<>]+>|[a-z]{3}-\\d{8}-wa\\d+\\.\\w+ \\(.+\\)|.+ \\((?:${normal(ATTACHED)})\\)|[^:]{3,20}: https://maps\\.google\\.com/\\?q=\\S+",
    )
    private val edited = Regex("\\u200e<[^<>]+>|<(?:${normal(EDITED)})\\.?>")

    private fun normal(text: String) = Normalizer.normalize(text, Normalizer.Form.NFC).lowercase()

    /** Whether a message's first line is WhatsApp's own: media, a deletion, a call, a place. */
    fun isOwn(line: String): Boolean {
        val text = normal(line.trim('\u200e', '\u200f', '\u202f', '\u00a0', ' '))
        return text.trimEnd('.', '।') in own || pattern.matches(text)
    }

    /** A message without the remark at its end that it was edited. */
    fun withoutEdited(text: String): String {
        val message = text.trimEnd(WhatsApp::isSpace)
        // From the last bracket on: searched for from the front, long white space would take hours.
        val bracket = message.lastIndexOf('<')
        if (bracket < 0) return text
        val begin = if (message.getOrNull(bracket - 1) == '\u200e') bracket - 1 else bracket
        return if (edited.matches(normal(message.substring(begin)))) message.substring(0, begin).trimEnd(WhatsApp::isSpace) else text
    }
}
