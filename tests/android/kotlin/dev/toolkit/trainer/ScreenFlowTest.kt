package dev.toolkit.trainer

import android.app.Activity
import android.app.AlertDialog
import android.app.ActivityManager
import android.content.Intent
import android.graphics.Insets
import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.view.WindowInsets
import android.widget.Button
import android.widget.EditText
import android.widget.Spinner
import android.widget.ScrollView
import dev.toolkit.trainer.ui.WelcomeActivity
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.RunSettings
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.MadeData
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.SettingsActivity
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
import org.robolectric.shadows.ShadowDialog
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController
import org.robolectric.shadows.ShadowToast
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit

/** What a person does on the screens, hasty fingers and a turned phone included. */
@RunWith(RobolectricTestRunner::class)
class ScreenFlowTest {
    @get:Rule val temporary = TemporaryFolder()

    private fun deliver(app: TrainerApp, service: ServiceController<TrainingService>) {
        generateSequence { shadowOf(app).nextStartedService }.forEach { service.get().onStartCommand(it, 0, 1) }
        Fixtures.settle(app)
    }

    private fun turn(landscape: Boolean) = RuntimeEnvironment.setQualifiers(if (landscape) "+land" else "+port")

    @Test
    fun `starting, rotating and stopping from the screen`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000))
        val screen = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup()
        await("the page") { screen.get().requireViewById<Button>(R.id.primary).text == "Start" }
        repeat(2) { screen.get().requireViewById<Button>(R.id.primary).performClick() }
        val service = Robolectric.buildService(TrainingService::class.java).create()
        deliver(app, service)
        await("a step") { (app.controller.active?.progress?.step ?: 0) > 1 }
        val step = app.controller.active!!.progress!!.step
        turn(landscape = true)
        screen.recreate()
        await("the page again") { screen.get().requireViewById<Button>(R.id.primary).text == "Pause" }
        assertTrue("the run went on meanwhile", app.controller.active!!.progress!!.step >= step)
        await("the curve") { screen.get().requireViewById<View>(R.id.loss).contentDescription.startsWith("Loss curve") }
        turn(landscape = false)
        screen.recreate()
        repeat(2) { screen.get().requireViewById<Button>(R.id.stop).performClick() }
        deliver(app, service)
        await("the end") { app.controller.active == null }
        await("the page at the end") { text(screen.get(), "Stopped early") }
        assertEquals(RunState.STOPPED, app.runs.require("a").state)
        screen.close()
        service.destroy()
    }

    @Test
    fun `a new run is made once however often it is tapped`() {
        val app = Fixtures.deploy(temporary)
        val screen = Robolectric.buildActivity(NewRunActivity::class.java, NewRunActivity.intent(app, "tiny", "rows")).setup()
        await("the form") { text(screen.get(), "rows") }
        repeat(3) { screen.get().requireViewById<Button>(R.id.start).performClick() }
        await("the run") { screen.get().isFinishing }
        assertEquals(listOf("run"), app.runs.list().map { it.name })
        assertEquals(TrainingService.START, shadowOf(app).nextStartedService.action)
        assertNull(shadowOf(app).nextStartedService)
        screen.close()
    }

    @Test
    fun `another optimizer brings its learning rate, unless one was written`() {
        val app = Fixtures.deploy(temporary)
        val screen = Robolectric.buildActivity(NewRunActivity::class.java, NewRunActivity.intent(app, "tiny", "rows")).setup()
        await("the form") { text(screen.get(), "rows") }
        val rate = screen.get().requireViewById<EditText>(R.id.rate)
        val optimizer = screen.get().requireViewById<Spinner>(R.id.optimizer)
        fun chosen(name: String): String {
            optimizer.setSelection(RunSettings.OPTIMIZERS.indexOf(name))
            shadowOf(Looper.getMainLooper()).idle()
            return rate.text.toString()
        }
        assertEquals(listOf("2e-2", "2e-4", "1e-1"), listOf(chosen("adalomo"), chosen("mlorc"), chosen("sgd")))
        rate.setText("3e-3")
        assertEquals("3e-3", chosen("adamw"))
        screen.close()
    }

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
        turn(landscape = true)
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
        turn(landscape = true)
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
        val memory = shadowOf(app.getSystemService(ActivityManager::class.java))
        memory.setMemoryInfo(ActivityManager.MemoryInfo().apply { availMem = 300_000_000 })
        Fixtures.create(app, "long", Fixtures.reference.copy(steps = 100_000))
        app.controller.start("long")
        await("a step") { app.controller.active?.doing == Doing.TRAINING }
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
    fun `what was chosen outlives a turn of the phone`() {
        val app = Fixtures.deploy(temporary)
        TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there, how are you?"))
        val controller = Robolectric.buildActivity(NewRunActivity::class.java).setup()
        await("the form") { text(controller.get(), "tiny") }
        controller.get().requireViewById<Spinner>(R.id.bundle).setSelection(1)
        await("the other model's data") { controller.get().requireViewById<Spinner>(R.id.data).count == 2 }
        controller.get().requireViewById<Spinner>(R.id.data).setSelection(1)
        Fixtures.idle()
        val chosen = controller.get().requireViewById<Spinner>(R.id.data).selectedItem
        turn(landscape = true)
        controller.recreate()
        await("the form again") { controller.get().requireViewById<Spinner>(R.id.bundle).selectedItem == "tiny-words" }
        await("the data") { controller.get().requireViewById<Spinner>(R.id.data).selectedItem == chosen }
        controller.close()
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

    @Test
    fun `one tap on a run's card starts, pauses, resumes and stops it`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a", Fixtures.reference.copy(steps = 100_000))
        val screen = Robolectric.buildActivity(MainActivity::class.java).setup().get()
        val service = Robolectric.buildService(TrainingService::class.java).create()
        val tap = { button: Int, words: String ->
            await(words) { screen.window.decorView.findViewById<View>(button)?.let { it.isShown && it.contentDescription == words } == true }
            screen.requireViewById<View>(button).performClick()
            deliver(app, service)
        }
        tap(R.id.action, "Start run a")
        await("a step") { (app.controller.active?.progress?.step ?: 0) > 0 }
        tap(R.id.action, "Pause run a")
        await("the pause") { app.controller.active == null && app.runs.require("a").state == RunState.PAUSED }
        tap(R.id.action, "Resume run a")
        await("more steps") { app.controller.active?.doing == Doing.TRAINING }
        tap(R.id.stop, "Stop run a")
        await("the end") { app.controller.active == null && app.runs.require("a").state == RunState.STOPPED }
        await("the card") { !screen.requireViewById<View>(R.id.stop).isShown }
        service.destroy()
    }

    @Test
    fun `a page that is open shows the run of another notification`() {
        val app = Fixtures.deploy(temporary)
        Fixtures.create(app, "a")
        Fixtures.create(app, "b")
        val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup()
        page.newIntent(RunActivity.intent(app, "b"))
        await("the other run") { page.get().requireViewById<TextView>(R.id.run_name).text.toString() == "b" }
        turn(landscape = true)
        page.recreate()
        assertEquals("b", page.get().requireViewById<TextView>(R.id.run_name).text)
        await("the page") { text(page.get(), "Not started") }
        page.close()
    }

    @Test
    fun `the licences of what is in the app can be read in it`() {
        Fixtures.deploy(temporary)
        val screen = Robolectric.buildActivity(SettingsActivity::class.java).setup().get()
        await("the button") { screen.requireViewById<View>(R.id.licences).isShown }
        screen.requireViewById<View>(R.id.licences).performClick()
        val names = (ShadowDialog.getLatestDialog() as AlertDialog).listView
        assertEquals(7, names.count)
        for ((name, words) in listOf("ExecuTorch" to "Meta Platforms", "GNU C library" to "GNU Lesser General Public", "Apache 2.0 (Kotlin)" to "Apache License")) {
            names.performItemClick(null, (0 until names.count).first { names.getItemAtPosition(it) == name }, 0)
            await("the text of $name") {
                val shown = ShadowDialog.getLatestDialog() as AlertDialog
                shown.findViewById<TextView>(android.R.id.message)?.text?.contains(words) == true
            }
        }
    }

    @Test
    fun `the bars of the system cover nothing`() {
        Fixtures.deploy(temporary)
        val bars = WindowInsets.Builder().setInsets(WindowInsets.Type.systemBars(), Insets.of(0, 48, 0, 96)).build()
        for (type in listOf(MainActivity::class, NewRunActivity::class, TextActivity::class, SettingsActivity::class, WelcomeActivity::class)) {
            val screen = Robolectric.buildActivity(type.java).setup().get()
            val root = screen.requireViewById<ViewGroup>(android.R.id.content).getChildAt(0)
            val height = root.height
            root.dispatchApplyWindowInsets(bars)
            assertEquals("$type", listOf(48, 0), listOf(root.paddingTop, root.paddingBottom))
            root.measure(exactly(root.width), exactly(height))
            root.layout(0, 0, root.width, height)
            val scroll = screen.requireViewById<ScrollView>(R.id.scroll)
            val bar = if (scroll.tag == "bottom") scroll else (scroll.parent as ViewGroup).run { getChildAt(childCount - 1) }
            assertEquals("$type: to the edge", height, bottom(bar))
            assertTrue("$type: what is in it stays clear of the system's bar", bar.paddingBottom >= 96)
            assertFalse("$type: and can be seen below it", (bar as? ScrollView)?.clipToPadding ?: false)
            scroll.scrollTo(0, 1_000_000)
            assertTrue("$type", bottom(scroll.getChildAt(0)) <= height - 96)
        }
    }

    @Test
    fun `the keyboard does not cover the field that is typed into`() {
        RuntimeEnvironment.setQualifiers("w400dp-h800dp") // where a keyboard leaves a form some lines
        val app = Fixtures.deploy(temporary)
        val keyboard = WindowInsets.Builder().setInsets(WindowInsets.Type.systemBars(), Insets.of(0, 48, 0, 96))
            .setInsets(WindowInsets.Type.ime(), Insets.of(0, 0, 0, 300)).build()
        val screen = Robolectric.buildActivity(NewRunActivity::class.java, NewRunActivity.intent(app, "tiny", "rows")).setup().get()
        await("the form") { text(screen, "times through the text") }
        screen.requireViewById<View>(R.id.expert).performClick()
        val root = screen.requireViewById<ViewGroup>(android.R.id.content).getChildAt(0)
        val height = root.height
        screen.requireViewById<ScrollView>(R.id.scroll).isSmoothScrollingEnabled = false // nothing draws here
        val layOut = {
            root.measure(exactly(root.width), exactly(height))
            root.layout(0, 0, root.width, height)
            Fixtures.advance(1000)
        }
        layOut()
        for (id in listOf(R.id.steps, R.id.accumulation, R.id.name)) {
            root.dispatchApplyWindowInsets(WindowInsets.Builder().build())
            layOut()
            val field = screen.requireViewById<View>(id)
            field.requestFocus()
            // At the edge of what is seen, where a keyboard comes first.
            screen.requireViewById<ScrollView>(R.id.scroll).run { scrollBy(0, bottom(field) - bottom(this) + paddingBottom) }
            root.dispatchApplyWindowInsets(keyboard)
            layOut()
            assertTrue("${bottom(field)} of $height", bottom(field) <= height - 300)
        }
    }

    private fun exactly(size: Int) = View.MeasureSpec.makeMeasureSpec(size, View.MeasureSpec.EXACTLY)

    /** In the window. */
    private fun bottom(view: View): Int = IntArray(2).also(view::getLocationInWindow)[1] + view.height

    private fun text(): Activity {
        val screen = Robolectric.buildActivity(TextActivity::class.java).setup().get()
        await("the models") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        return screen
    }
}
