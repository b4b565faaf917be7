package dev.toolkit.trainer

import android.app.Activity
import android.content.Intent
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.Spinner
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.TextActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ServiceController

/** What a person does on the screens, hasty fingers and a turned phone included. */
@RunWith(RobolectricTestRunner::class)
class ScreenFlowTest {
    @get:Rule val temporary = TemporaryFolder()

    private fun deliver(app: TrainerApp, service: ServiceController<TrainingService>) =
        generateSequence { shadowOf(app).nextStartedService }.forEach { service.get().onStartCommand(it, 0, 1) }

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
        Fixtures.idle()
        assertEquals(listOf("run"), app.runs.list().map { it.name })
        assertEquals(TrainingService.START, shadowOf(app).nextStartedService.action)
        assertNull(shadowOf(app).nextStartedService)
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
        assertEquals("text/*", request.type)
        assertTrue(request.getBooleanExtra(Intent.EXTRA_ALLOW_MULTIPLE, false))
        Documents.answer(screen, listOf(good, broken, good))
        assertTrue(text(screen, "notes.txt") && text(screen, "520 B") && text(screen, "broken.txt"))
        screen.requireViewById<Button>(R.id.make).performClick()
        await("the data") { app.data.find("my-text") != null && screen.isFinishing }
        assertTrue(app.data.require("my-text").tokens > 100)
        assertNull("no permission is asked for", shadowOf(screen).lastRequestedPermission)
    }

    @Test
    fun `a file that cannot be read any more, and one that is not from the picker`() {
        val app = Fixtures.deploy(temporary)
        val documents = Documents.register()
        val gone = documents.add("1", "gone.txt", "hello".toByteArray())
        val screen = text()
        screen.requireViewById<View>(R.id.add_files).performClick()
        Documents.answer(screen, listOf(gone, android.net.Uri.fromFile(app.folders.own)))
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
        assertTrue(text(controller.get(), "notes.txt"))
        assertNotNull(controller.get().window)
        controller.close()
    }

    private fun text(): Activity {
        val screen = Robolectric.buildActivity(TextActivity::class.java).setup().get()
        await("the models") { screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        return screen
    }
}
