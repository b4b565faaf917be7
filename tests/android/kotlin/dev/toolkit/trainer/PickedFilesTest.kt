package dev.toolkit.trainer

import android.app.Activity
import android.content.Intent
import android.net.Uri
import android.view.View
import android.view.ViewGroup
import android.widget.Button
import android.widget.Spinner
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.chats.Choices
import dev.toolkit.trainer.chats.Format
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.Answers
import dev.toolkit.trainer.ui.MadeData
import dev.toolkit.trainer.ui.TextActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream

/** Files for "Train on my text": what has to be said of them, and what is done with them beside a run. */
@RunWith(RobolectricTestRunner::class)
class PickedFilesTest {
    @get:Rule val temporary = TemporaryFolder()

    private val documents by lazy { Documents.register() }

    private fun chat(name: String): Uri = documents.add(name, name, File(Fixtures.folder, "chats/files/$name").readBytes())

    private fun share(vararg files: Uri): ActivityController<TextActivity> {
        val intent = Intent(Intent.ACTION_SEND_MULTIPLE).setType("text/plain").putParcelableArrayListExtra(Intent.EXTRA_STREAM, ArrayList(files.toList()))
        return Robolectric.buildActivity(TextActivity::class.java, intent).setup()
    }

    private val Activity.me: Spinner get() = choices(R.id.me)[0]

    /** Of all files, in their order. */
    private fun Activity.choices(id: Int) = Pictures.views(this).filterIsInstance<Spinner>().filter { it.id == id && it.isShown }

    private fun choose(of: Spinner, line: Int) = of.setSelection(line).also { Fixtures.advance(100) }

    private val Activity.why: String get() = requireViewById<TextView>(R.id.why).text.toString()
    private fun asks(screen: Activity) = screen.choices(R.id.me).any { it.count == 3 }

    private val Activity.make: Button get() = requireViewById(R.id.make)

    @Test
    fun `who the user is was said once, and stays said`() {
        Fixtures.deploy(temporary)
        val controller = share(chat("android.txt"))
        await("who speaks") { asks(controller.get()) }
        assertEquals(listOf(0, false), listOf(controller.get().me.selectedItemPosition, controller.get().make.isEnabled))
        controller.get().me.setSelection(2)
        await("the button") { controller.get().make.isEnabled }
        controller.recreate()
        await("who speaks, again") { asks(controller.get()) && controller.get().make.isEnabled }
        assertEquals("Ben, 3 messages", controller.get().me.selectedItem)
        // Another chat with the same people, and one whose own they are not.
        val screen = controller.get()
        for (file in listOf(chat("us.txt"), documents.add("d", "diary.txt", "dear diary".toByteArray()))) {
            screen.requireViewById<View>(R.id.add_files).performClick()
            Documents.answer(screen, listOf(file))
        }
        await("all of them") { screen.requireViewById<ViewGroup>(R.id.files).childCount == 3 && screen.make.isEnabled }
        assertEquals(listOf("Ben, 3 messages", "Ben, 2 messages"), screen.choices(R.id.me).map { it.selectedItem })
        // And it can be taken back.
        screen.me.setSelection(0)
        await("the button") { !screen.make.isEnabled }
        assertEquals("Say first who you are in android.txt.", screen.why)
        assertEquals("TalkBack reads it with the button", "Make training data. ${screen.why}", screen.make.contentDescription)
        repeat(2) { screen.requireViewById<ViewGroup>(R.id.files).getChildAt(0).requireViewById<View>(R.id.delete).performClick() }
        assertTrue("a text needs nobody", screen.make.isEnabled)
        assertEquals("", screen.why)
        assertNull(screen.make.contentDescription)
        controller.close()
    }

    @Test
    fun `who the user is follows what was said in another chat, and never what was said in its own`() {
        Fixtures.deploy(temporary)
        val lines = listOf("Anna: hello there", "Ben: hi", "Anna: how are you?", "Ben: fine").joinToString("") { "24/12/2023, 18:30 - $it\n" }
        val chats = List(3) { documents.add("chat$it", "chat$it.txt", lines.toByteArray()) }
        val controller = share(*chats.toTypedArray())
        val said = { controller.get().choices(R.id.me).map { it.selectedItemPosition } }
        await("who speaks") { controller.get().choices(R.id.me).size == 3 }
        choose(controller.get().me, 1)
        assertEquals(listOf(1, 1, 1), said())
        assertTrue(controller.get().make.isEnabled)
        // A wrong tap is corrected where it was made.
        choose(controller.get().me, 2)
        assertEquals(listOf(2, 2, 2), said())
        choose(controller.get().me, 0)
        assertEquals("taken back", listOf(0, 0, 0), said())
        // What is said in a chat itself stays, "nobody" too, also over a turn.
        choose(controller.get().choices(R.id.me)[1], 2)
        choose(controller.get().choices(R.id.me)[1], 0)
        choose(controller.get().me, 1)
        assertEquals(listOf(1, 0, 1), said())
        controller.recreate()
        await("all of them, again") { controller.get().choices(R.id.me).size == 3 }
        assertEquals(listOf(1, 0, 1), said())
        assertEquals("Say first who you are in chat1.txt.", controller.get().why)
        choose(controller.get().me, 2)
        assertEquals("what was taken over is known after the turn", listOf(2, 0, 2), said())
        // Where two are said, none of them is guessed.
        choose(controller.get().choices(R.id.me)[1], 1)
        assertEquals(listOf(2, 1, 0), said())
        controller.get().requireViewById<ViewGroup>(R.id.files).getChildAt(0).requireViewById<View>(R.id.delete).performClick()
        assertEquals(listOf(1, 1), said())
        controller.close()
    }

    @Test
    fun `a column without a name is one like any other`() {
        assertEquals("", Answers(answer = "b", question = "").choices().question)
        assertNull(Answers(answer = "b", question = Answers.NONE).choices().question)
    }

    @Test
    fun `a file is not looked at beside a run where there is no memory for it`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.trainForLong(app, freeMb = 300)
        val large = documents.add("large", "large.txt", ByteArray(TextData.LARGEST_FILE) { 'a'.code.toByte() })
        val screen = share(large, chat("android.txt")).get()
        await("the small one") { asks(screen) && text(screen, "WhatsApp chat") && text(screen, "Looked at when") }
        assertEquals(listOf("android.txt"), documents.opened.distinct())
        screen.me.setSelection(1)
        await("the button") { screen.make.isEnabled }
        screen.make.performClick()
        assertTrue(text(screen, "long is training, and only 300 MB"))
        assertFalse(app.makingData.running)
        screen.requireViewById<ViewGroup>(R.id.files).getChildAt(1).requireViewById<View>(R.id.delete).performClick()
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        // Now it is looked at, and then learned from.
        await("the models") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        screen.make.performClick()
        await("the large file") { "large" in documents.opened }
        await("the work") { app.makingText != null || screen.isFinishing }
        app.makingText?.cancel()
        await("the end") { !app.makingData.running }
    }

    @Test
    fun `that a column answers nothing stays said, and a named table asks nothing`() {
        val app = Fixtures.deploy(temporary)
        val table = documents.add("t", "t.csv", "Nr,Frage,Antwort\n1,wo?,hier ist es schon\n".toByteArray())
        val controller = share(table, documents.add("n", "named.csv", "id,prompt,completion\n1,a,b\n".toByteArray()))
        await("the tables") { controller.get().choices(R.id.answer).map { it.count } == listOf(4, 4) }
        assertEquals("Choose a column" to "As the columns are named", controller.get().choices(R.id.answer).map { it.selectedItem }.let { it[0] to it[1] })
        choose(controller.get().choices(R.id.answer)[0], 3)
        choose(controller.get().choices(R.id.question).single(), 1)
        assertTrue(controller.get().make.isEnabled)
        // Another file has all of them shown anew, and so has a turn.
        controller.get().requireViewById<View>(R.id.add_files).performClick()
        Documents.answer(controller.get(), listOf(documents.add("d", "diary.txt", "dear diary".toByteArray())))
        await("the other file") { controller.get().make.isEnabled && text(controller.get(), "diary.txt") }
        controller.recreate()
        val screen = controller.get()
        await("what was said") { screen.make.isEnabled && screen.choices(R.id.question).size == 1 }
        assertEquals("None: a text by itself", screen.choices(R.id.question)[0].selectedItem)
        await("the model") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        screen.make.performClick()
        await("the data") { screen.isFinishing }
        assertEquals("with a question it would be a chat too long for this model", 2, app.data.require("my-text").documents)
        controller.close()
    }

    @Test
    fun `Telegram and WhatsApp are learned together, each asks who one is`() {
        val app = Fixtures.deploy(temporary, listOf("chats"))
        val screen = share(chat("android.txt"), chat("result.json")).get()
        await("who speaks") { screen.choices(R.id.me).size == 2 }
        for (asks in screen.choices(R.id.me)) {
            assertFalse(screen.make.isEnabled)
            choose(asks, (0 until asks.count).first { asks.getItemAtPosition(it).toString().startsWith("Anna Müller") })
        }
        await("the model") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        screen.make.performClick()
        await("the data") { screen.isFinishing }
        val alone = listOf("android.txt", "result.json").sumOf { name ->
            val text = File(Fixtures.folder, "chats/files/$name").readText()
            val me = Format.of(name, text).speakers(name, text).first { it.name == "Anna Müller" }.id
            TextData(app.folders).make(name, app.bundles.require("chats"), Format.of(name, text).read(name, text, Choices(me))).documents
        }
        assertEquals(alone, app.data.require("my-text").documents)
    }

    @Test
    fun `what cannot be learned says so in its row, and goes`() {
        Fixtures.deploy(temporary)
        val damaged = File(Fixtures.folder, "chats/files/result.json").readText().replace("\"date\"", "\"day\"")
        val files = listOf(
            documents.add("a", "result.json", damaged.toByteArray()) to "as Telegram exports it",
            documents.add("b", "letter.pdf", "%PDF-1.7\n".toByteArray()) to "letter.pdf is a PDF document.",
            documents.add("c", "photo.txt", byteArrayOf(-1, -40, -1, 0)) to "photo.txt is a picture.",
            documents.add("d", "memo.txt", "\u00ff\u00feh\u0000".toByteArray(Charsets.ISO_8859_1)) to "memo.txt is text in UTF-16.",
            documents.add("e", "notes.bin", byteArrayOf(104, 105, 0, 1)) to "notes.bin is no text",
            documents.add("f", "book.docx", zip("word/document.xml" to "<w/>")) to "book.docx is a zip or an office document",
            documents.add("g", "old.tar", ByteArray(257) + "ustar".toByteArray()) to "old.tar is a compressed archive",
        )
        val screen = share(*files.map { it.first }.toTypedArray(), documents.add("o", "orcs.txt", "ORCs are no tables".toByteArray())).get()
        for ((file, words) in files) await("$file: $words") { text(screen, words) }
        await("the button's reason") { screen.why == "result.json cannot be learned from: remove it." }
        for (index in files.indices) {
            assertFalse(screen.make.isEnabled)
            screen.requireViewById<ViewGroup>(R.id.files).getChildAt(0).requireViewById<View>(R.id.delete).performClick()
        }
        assertTrue("what is left is text", screen.make.isEnabled)
        assertEquals(1, screen.requireViewById<ViewGroup>(R.id.files).childCount)
    }

    private fun zip(vararg files: Pair<String, String>) = ByteArrayOutputStream().also { out ->
        ZipOutputStream(out).use { zip ->
            for ((name, content) in files) {
                zip.putNextEntry(ZipEntry(name))
                zip.write(content.toByteArray())
            }
        }
    }.toByteArray()

    @Test
    fun `a chat comes out of the zip that it was exported as`() {
        val app = Fixtures.deploy(temporary, listOf("chats"))
        val text = File(Fixtures.folder, "chats/files/android.txt").readText()
        val archive = documents.add("z", "WhatsApp Chat - Ben.zip", zip("IMG-1.jpg" to "\u0000", "notes.txt" to "a letter", "_chat.txt" to text, "b.opus" to "x"))
        val intent = Intent(Intent.ACTION_SEND).setType("application/zip").putExtra(Intent.EXTRA_STREAM, archive)
        val takes = app.packageManager.queryIntentActivities(Intent(intent).setPackage(app.packageName), 0).map { it.activityInfo.name }
        assertTrue("$takes", TextActivity::class.java.name in takes)
        val screen = Robolectric.buildActivity(TextActivity::class.java, intent).setup().get()
        await("what was taken") { text(screen, "WhatsApp chat: _chat.txt, without the pictures and other files") }
        choose(screen.me, 1)
        await("the model") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        screen.make.performClick()
        await("the data") { screen.isFinishing }
        val alone = TextData(app.folders).make("alone", app.bundles.require("chats"), Format.WHATSAPP.read("c", text, Choices("Anna Müller")))
        assertEquals(alone.tokens, app.data.require("my-text").tokens)
    }

    @Test
    fun `what was sent in a chat is not taken for it, and two chats in one zip are refused`() {
        Fixtures.deploy(temporary)
        val text = File(Fixtures.folder, "chats/files/android.txt").readText()
        val sent = text.replace("Anna Müller", "Zoe")
        val long = "a".repeat(TextData.LARGEST_FILE + 1)
        val files = listOf(
            documents.add("a", "a.zip", zip("00001-book.txt" to long, "00002-chat.txt" to sent, "_chat.txt" to text, "00003-chat.txt" to sent)),
            documents.add("b", "b.zip", zip("one/WhatsApp Chat with Ben.txt" to text, "two.txt" to sent)),
            documents.add("c", "c.zip", zip("one/_chat.txt" to text, "two/_chat.txt" to sent)),
            documents.add("d", "d.zip", zip("book.txt" to long)),
        )
        val screen = share(*files.toTypedArray()).get()
        await("all of them") { text(screen, "d.zip is larger") }
        assertTrue(text(screen, "WhatsApp chat: _chat.txt"))
        assertTrue(listOf("b", "c").all { text(screen, "$it.zip has more than one chat in it.") })
        val people = screen.choices(R.id.me).single()
        assertTrue((0 until people.count).any { people.getItemAtPosition(it).toString().startsWith("Anna Müller") })
    }

    @Test
    fun `files are looked at one after the other, and not after the screen is gone`() {
        Fixtures.deploy(temporary)
        val files = List(9) { documents.add("$it", "letter-$it.txt", "dear diary $it".toByteArray()) }
        val wait = CountDownLatch(1)
        documents.beforeOpening = { if (it == "2") wait.await(60, TimeUnit.SECONDS) }
        val controller = share(*files.toTypedArray())
        await("the third file") { documents.opened.lastOrNull() == "2" && controller.get().why == "Looking at file 3 of 9 …" }
        assertEquals(listOf("0", "1", "2"), documents.opened)
        assertTrue(text(controller.get(), "Reading …") && text(controller.get(), "Waits to be looked at"))
        controller.close()
        wait.countDown()
        Thread.sleep(200)
        Fixtures.advance(1000)
        assertEquals(listOf("0", "1", "2"), documents.opened)
    }

    @Test
    fun `data that is ready while the screen is not looked at opens the next one when it is`() {
        val app = Fixtures.deploy(temporary)
        val controller = Robolectric.buildActivity(TextActivity::class.java).setup()
        app.makingData.begin { MadeData(TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there")), null) }
        controller.pause().stop()
        await("the data") { !app.makingData.running }
        assertNull(shadowOf(controller.get()).nextStartedActivity)
        assertFalse(controller.get().isFinishing)
        controller.start().resume()
        await("the next screen") { controller.get().isFinishing }
        assertEquals("mine", shadowOf(controller.get()).nextStartedActivity.getStringExtra("data"))
        controller.close()
    }
}
