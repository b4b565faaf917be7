package dev.toolkit.trainer

import android.app.Activity
import android.content.Intent
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.Spinner
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.MadeData
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.TextActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowToast
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit

/** How text becomes data on its screen: typed, picked and cancelled, on a phone that is turned meanwhile. */
@RunWith(RobolectricTestRunner::class)
class TextScreenTest {
    @get:Rule val temporary = TemporaryFolder()

    @Test
    fun `text becomes data and leads to a new run, errors stay on the screen`() {
        val app = Fixtures.deploy(temporary)
        val screen = text()
        val make = screen.requireViewById<Button>(R.id.make)
        make.performClick()
        assertTrue(text(screen, "Write some text"))
        screen.requireViewById<EditText>(R.id.text).setText("hello there, how are you?")
        screen.requireViewById<EditText>(R.id.name).setText("../up")
        make.performClick()
        await("the refusal") { text(screen, "cannot name a data set") }
        screen.requireViewById<EditText>(R.id.name).setText("mine")
        make.performClick()
        make.performClick()
        await("the data") { app.data.find("mine") != null && screen.isFinishing }
        assertEquals(NewRunActivity::class.java.name, shadowOf(screen).nextStartedActivity.component?.className)
    }

    @Test
    fun `picked files are read through the system's picker, without a storage permission`() {
        val app = Fixtures.deploy(temporary)
        val documents = Documents.register()
        val good = documents.add("1", "notes.txt", "hello there, how are you? ".repeat(20).toByteArray())
        val broken = documents.add("2", "broken.txt", byteArrayOf(104, 105, -1, -64, 33))
        val screen = text()
        screen.requireViewById<View>(R.id.add_files).performClick()
        val request = shadowOf(screen).peekNextStartedActivityForResult().intent
        assertEquals(Intent.ACTION_OPEN_DOCUMENT, request.action)
        assertEquals(listOf("text/*", "application/json"), request.getStringArrayExtra(Intent.EXTRA_MIME_TYPES)!!.take(2))
        assertTrue(request.getBooleanExtra(Intent.EXTRA_ALLOW_MULTIPLE, false))
        Documents.answer(screen, listOf(good, broken, good))
        await("the files") { text(screen, "notes.txt") && text(screen, "520\u00A0B") && text(screen, "broken.txt") }
        await("the look at them") { screen.requireViewById<Button>(R.id.make).isEnabled }
        screen.requireViewById<Button>(R.id.make).performClick()
        await("the data") { app.data.find("my-text") != null && screen.isFinishing }
        assertTrue(app.data.require("my-text").tokens > 100)
        assertNull("no permission is asked for", shadowOf(screen).lastRequestedPermission)
    }

    @Test
    fun `a chat asks who one is, a table for its columns, and both outlive a turn of the phone`() {
        Fixtures.deploy(temporary)
        val documents = Documents.register()
        val chat = documents.add("1", "WhatsApp Chat.txt", File(Fixtures.folder, "chats/files/us.txt").readBytes())
        val table = documents.add("2", "table.csv", "Nr,Frage,Antwort\n1,wo?,hier\n".toByteArray())
        val controller = Robolectric.buildActivity(TextActivity::class.java).setup()
        val screen = controller.get()
        await("the model") { screen.requireViewById<Spinner>(R.id.bundle).count > 0 }
        screen.requireViewById<View>(R.id.add_files).performClick()
        Documents.answer(screen, listOf(chat, table))
        await("what they are") { text(screen, "WhatsApp chat · ") && text(screen, "Table · ") }
        fun choice(of: Activity, id: Int) = Pictures.views(of).filterIsInstance<Spinner>().single { it.id == id && it.isShown }
        fun lines(id: Int) = choice(screen, id).adapter.let { list -> List(list.count) { list.getItem(it).toString() } }
        assertEquals(listOf("Choose who you are", "Anna Müller, 3 messages", "Ben, 2 messages", "Cleo, 1 message"), lines(R.id.me))
        assertEquals("which is which is not guessed", listOf("Choose a column", "Nr", "Frage", "Antwort"), lines(R.id.answer))
        fun choose(id: Int, line: Int) = choice(screen, id).setSelection(line).also { Fixtures.advance(100) }
        choose(R.id.me, 2)
        assertEquals("Say first what the columns of table.csv are.", screen.requireViewById<TextView>(R.id.why).text.toString())
        choose(R.id.answer, 3)
        assertEquals(listOf("Choose a column", "None: a text by itself", "Nr", "Frage"), lines(R.id.question))
        assertFalse(screen.requireViewById<View>(R.id.make).isEnabled)
        choose(R.id.question, 3)
        assertTrue(screen.requireViewById<View>(R.id.make).isEnabled)
        controller.recreate()
        val turned = controller.get()
        await("the choices again") { turned.requireViewById<View>(R.id.make).isEnabled && text(turned, "Table · ") && text(turned, "WhatsApp chat · ") }
        assertEquals("Ben, 2 messages", choice(turned, R.id.me).selectedItem)
        assertEquals("Frage" to "Antwort", choice(turned, R.id.question).selectedItem to choice(turned, R.id.answer).selectedItem)
        controller.close()
    }

    @Test
    fun `a file that cannot be read any more, and one that is not from the picker`() {
        val app = Fixtures.deploy(temporary)
        val documents = Documents.register()
        val gone = documents.add("1", "gone.txt", "hello".toByteArray())
        val screen = text()
        screen.requireViewById<View>(R.id.add_files).performClick()
        Documents.answer(screen, listOf(gone, android.net.Uri.fromFile(app.folders.own)))
        await("the file") { text(screen, "gone.txt") && screen.requireViewById<Button>(R.id.make).isEnabled }
        documents.forbidden = true
        screen.requireViewById<Button>(R.id.make).performClick()
        await("the message") { text(screen, "gone.txt cannot be read any more") }
        assertNull(app.data.find("my-text"))
        assertTrue(screen.requireViewById<Button>(R.id.make).isEnabled)
        documents.forbidden = false
        screen.requireViewById<View>(R.id.delete).performClick()
        screen.requireViewById<Button>(R.id.make).performClick()
        await("nothing is left") { text(screen, "Write some text or add a file first") }
    }

    @Test
    fun `what was typed and picked outlives a turn of the phone`() {
        Fixtures.deploy(temporary)
        val file = Documents.register().add("1", "notes.txt", "hello there".toByteArray())
        val controller = Robolectric.buildActivity(TextActivity::class.java).setup()
        await("the models") { controller.get().requireViewById<Spinner>(R.id.bundle).count == 1 }
        controller.get().requireViewById<EditText>(R.id.text).setText("dear diary")
        controller.get().requireViewById<EditText>(R.id.name).setText("diary")
        controller.get().requireViewById<View>(R.id.add_files).performClick()
        Documents.answer(controller.get(), listOf(file))
        val old = controller.get()
        Fixtures.turn(landscape = true)
        controller.recreate()
        assertFalse(controller.get() === old)
        await("the models again") { controller.get().requireViewById<Spinner>(R.id.bundle).count == 1 }
        assertEquals("dear diary", controller.get().requireViewById<EditText>(R.id.text).text.toString())
        assertEquals("diary", controller.get().requireViewById<EditText>(R.id.name).text.toString())
        await("the file") { text(controller.get(), "notes.txt") }
        controller.close()
    }

    @Test
    fun `data that is being made when the phone is turned is told of on the next screen`() {
        val app = Fixtures.deploy(temporary)
        val turned = CountDownLatch(1)
        app.makingData.begin {
            turned.await(60, TimeUnit.SECONDS)
            MadeData(TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there")), null)
        }
        val controller = Robolectric.buildActivity(TextActivity::class.java).setup()
        assertTrue(text(controller.get(), "Making training data"))
        Fixtures.turn(landscape = true)
        controller.recreate()
        assertFalse(controller.get().requireViewById<Button>(R.id.make).isEnabled)
        turned.countDown()
        await("the data") { controller.get().isFinishing }
        assertEquals("mine", shadowOf(controller.get()).nextStartedActivity.getStringExtra("data"))
        controller.close()
    }

    @Test
    fun `data that was made for a closed screen does not open a new run later`() {
        val app = Fixtures.deploy(temporary)
        app.makingData.begin { MadeData(TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there")), null) }
        await("the data") { !app.makingData.running }
        val screen = text()
        await("what is kept") { text(screen, "mine") }
        assertFalse(screen.isFinishing)
        assertNull(shadowOf(screen).nextStartedActivity)
    }

    @Test
    fun `a mistake in an errand or a screen's work ends nothing`() {
        val app = Fixtures.deploy(temporary)
        val told = ArrayList<String>()
        app.makingData.attach { told += it.problem!! }
        for (mistake in listOf(IllegalStateException("a mistake"), StackOverflowError(), OutOfMemoryError(), AssertionError("a mistake"))) {
            app.makingData.begin { throw mistake }
            await("the end of the errand with $mistake") { !app.makingData.running }
        }
        assertEquals(listOf("unexpected", "unexpected", "too much text", "unexpected"), told.map { words -> listOf("unexpected", "too much text").first { it in words } })
        var over = 0
        app.background.run({ error("a mistake") }) { over++ }
        app.background.run({ throw StackOverflowError() }) { over++ }
        Fixtures.settle(app)
        assertEquals(2, over)
        val screen = text() as TextActivity
        screen.inBackground({ throw OutOfMemoryError() }) {}
        await("the words") { ShadowToast.getTextOfLatestToast().orEmpty().contains("OutOfMemoryError") }
        assertFalse(screen.isFinishing)
    }

    @Test
    fun `data is not made beside a run where both do not fit`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.trainForLong(app, freeMb = 300)
        val screen = text()
        await("the models") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        screen.requireViewById<EditText>(R.id.text).setText("hello there, how are you?")
        screen.requireViewById<Button>(R.id.make).performClick()
        assertTrue(text(screen, "long is training, and only 300 MB"))
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        screen.requireViewById<Button>(R.id.make).performClick()
        await("the data") { screen.isFinishing }
    }

    @Test
    fun `making data can be cancelled, and a taken name is said at its field`() {
        val app = Fixtures.deploy(temporary)
        TextData(app.folders).make("taken", app.bundles.require("words"), listOf("hello there"))
        val making = TextData(app.folders)
        val texts = sequenceOf("hello there", "how are you?").onEach { making.cancel() }.asIterable()
        val error = assertThrows(AppException::class.java) { making.make("mine", app.bundles.require("words"), texts) }
        assertTrue("cancelled" in error.message!!)
        assertEquals(listOf("taken"), app.folders.data.list()!!.toList())

        val screen = text()
        await("the models") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        assertFalse(screen.requireViewById<Button>(R.id.cancel).isShown)
        screen.requireViewById<EditText>(R.id.text).setText("hello there, how are you?")
        val name = screen.requireViewById<EditText>(R.id.name)
        name.setText("taken")
        screen.requireViewById<Button>(R.id.make).performClick()
        assertTrue(screen.requireViewById<Button>(R.id.cancel).isShown)
        await("the refusal") { name.error != null }
        assertTrue(name.error.toString(), "already" in name.error.toString())
    }

    @Test
    fun `a text too long to be kept over a turn is refused with a way out`() {
        Fixtures.deploy(temporary)
        val field = text().requireViewById<EditText>(R.id.text)
        field.setText("dear diary")
        field.append("x".repeat(100_000))
        assertEquals("dear diary", field.text.toString())
        assertTrue(ShadowToast.getTextOfLatestToast(), "add the file" in ShadowToast.getTextOfLatestToast())
    }

    private fun text(): Activity {
        val screen = Robolectric.buildActivity(TextActivity::class.java).setup().get()
        await("the models") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        return screen
    }
}
